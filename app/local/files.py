"""Private folders for sockets, whose paths the kernel wants short."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

LONGEST_SOCKET_PATH = 107
"""Bytes: ``sun_path`` holds 108 with its closing zero on Linux (104 on macOS)."""


def short_folder(preferred: Path, socket_name: str) -> Path:
    """``preferred``, or a short private folder when ``socket_name`` in it would have too long a path.

    The short one is named after the long one, so that the next start finds the same.

    Raises:
        OSError: the folder cannot be made, or is not ours alone.
    """
    longest = LONGEST_SOCKET_PATH if os.uname().sysname == "Linux" else 103
    if len(os.fsencode(preferred / socket_name)) <= longest:
        folder = preferred
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        base = Path(runtime) if runtime and Path(runtime).is_dir() else Path(tempfile.gettempdir())
        digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:12]
        folder = base / f"hone-{os.geteuid()}-{digest}"
        folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{folder} must be a directory of yours that only you may enter (mode 0700): remove it")
    return folder
