"""The models of a command-line run that are no versions yet: base and reference, imported beside the output."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from app.rounds.spec import METRICS_FILE, Spec, SpecError
from app.versions.manifest import MANIFEST_FILE, ManifestError, VersionInfo, publish, verify
from worker.hub import commit_of
from worker.imports import import_base, source_of
from worker.trainer.errors import RefusedError

BASE = ".base"
REFERENCE = ".reference"
"""Behind the output's name: where base and reference lie."""

log = logging.getLogger(__name__)


def base_of(model: str, directory: Path, job: Path) -> Path:
    """``directory``, holding the version that ``model``, a directory or hub id, was imported as.

    One that lies there and was made of another model, or of this one before it changed, is made again if ``job`` has
    not trained on it.

    Raises:
        ModelError: ``model`` cannot be imported.
        RefusedError: what lies there was made of something else, and something may stand on it.
    """
    wanted = source_of(model)
    if directory.exists():
        found = VersionInfo.read(directory).source
        if not is_made_of(found, wanted) and not _unused(directory, job):
            raise RefusedError(
                f"{directory} was made of {_named(found)}, and --model {model} is {_difference(found, wanted)}; what "
                "was trained on it needs it, so name another --output, or the model it was made of; or remove it and "
                f"{job}, if nothing that stands on it is wanted any more"
            )
    return _imported(model, wanted, directory)


def reference_of(model: str, directory: Path) -> Path:
    """``directory``, holding the version that the reference ``model``, a directory or hub id, was imported as.

    Nothing stands on it once its log-probs are computed: one that was made of another model is made again.

    Raises:
        ModelError: ``model`` cannot be imported.
    """
    return _imported(model, source_of(model), directory)


def _imported(model: str, wanted: dict[str, Any], directory: Path) -> Path:
    """``model`` as the version in ``directory``; one that is there stays where it was made of just that."""
    if directory.exists() and is_made_of(VersionInfo.read(directory).source, wanted):
        return directory
    staged = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    twin = _twin(wanted, directory)
    if twin is None:
        import_base(Path(model) if Path(model).is_dir() else model, staged, converses=False)
    else:
        _link(twin, staged)
    if directory.exists():
        shutil.rmtree(directory)
    publish(staged, directory)
    return directory


def is_made_of(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether an import's source is the one asked for; a hub id stands for the revision that was fetched."""
    return {name: value for name, value in found.items() if name != "revision"} == wanted


def _twin(wanted: dict[str, Any], directory: Path) -> Path | None:
    """A whole base or reference of the same folder that was made of just the same."""
    found = sorted(
        manifest.parent
        for ending in (BASE, REFERENCE)
        for manifest in directory.parent.glob(f"*{ending}/{MANIFEST_FILE}")
    )
    others = [place for place in found if place != directory]
    if not others:
        return None
    exact = wanted | {"revision": commit_of(wanted["hub"])} if "hub" in wanted else wanted
    for place in others:
        try:
            if VersionInfo.read(place).source == exact:
                verify(place)
                return place
        except ManifestError as error:
            log.warning("base passed over: %s", error)
    return None


def _link(twin: Path, staged: Path) -> None:
    """The same version again. Files of a version never change, so that two may share them where a disk can."""
    staged.mkdir()
    for file in twin.iterdir():
        try:
            (staged / file.name).hardlink_to(file)
        except OSError:
            shutil.copyfile(file, staged / file.name)


def _unused(base: Path, job: Path) -> bool:
    """Whether ``job`` says that it has this base, and did not take a step on it."""
    try:
        start = Spec.read(job).start
    except SpecError:
        return False
    if start.path != str(base.resolve()) or (job / "checkpoints").exists() or any(job.glob("attempt-*")):
        return False
    metrics = job / METRICS_FILE
    lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines() if metrics.is_file() else []
    return not any(_kind(line) in ("train", "done") for line in lines)


def _kind(line: str) -> str | None:
    try:
        return str(json.loads(line).get("kind"))
    except (ValueError, AttributeError):  # a line cut short
        return None


def _named(source: dict[str, Any]) -> str:
    return str(source.get("path") or source.get("hub") or "a model that it does not name")


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    return "that model with other files" if _named(found) == _named(wanted) else "another"
