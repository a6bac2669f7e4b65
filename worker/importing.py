"""``python -m worker.importing SOURCE STAGED``: make a version directory of a base model.

A process of its own, because the worker's processes never import torch. The last line on stderr says what was wrong
and what to do; exit codes are ``app.rounds.spec.ExitCode``.
"""

import errno
import sys
from pathlib import Path

from app.rounds.spec import ExitCode
from app.versions.manifest import ManifestError
from worker.trainer.lifetime import STARTER_PID, die_with_parent


def main(arguments: list[str]) -> int:
    """Import; returns the exit code."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m worker.importing SOURCE STAGED\n")
        return int(ExitCode.REFUSED)
    die_with_parent(STARTER_PID)
    from worker.imports import import_base
    from worker.models import ModelError

    source, staged = arguments
    try:
        Path(staged).parent.mkdir(parents=True, exist_ok=True)
        import_base(source, Path(staged))
    except (ModelError, ManifestError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return int(ExitCode.REFUSED)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.stderr.write(f"no space left while importing {source}: free some, then retry\n")
            return int(ExitCode.OUT_OF_DISK)
        raise
    return int(ExitCode.DONE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
