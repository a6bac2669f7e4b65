"""The models of a command-line run that are no versions yet: base and reference, imported beside the output."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.rounds.spec import METRICS_FILE, Spec, SpecError
from app.versions.manifest import MANIFEST_FILE, ManifestError, VersionInfo, publish, verify
from worker.adapters import Adapter, import_adapter, is_adapter, refuse_quantized
from worker.hub import commit_of
from worker.imports import import_base, source_of
from worker.models import ModelError
from worker.trainer.errors import RefusedError

BASE, START, REFERENCE = ".base", ".start", ".reference"
"""Behind the output's name: where the base, the adapter to start from, and the reference lie."""

log = logging.getLogger(__name__)


def start_of(model: str, output: Path, job: Path) -> Path:
    """The version that ``model``, a version, a model directory, a hub id or a PEFT adapter, is or was imported as.

    Raises:
        ModelError: ``model`` cannot be imported.
        RefusedError: the base beside ``output`` was made of something else, and something may stand on it.
    """
    directory, base = Path(model), _beside(output, BASE)
    if (directory / MANIFEST_FILE).is_file():
        return directory
    if not is_adapter(directory):
        return base_of(model, base, job)
    return _adapter_of(directory, _beside(output, START), lambda name, revision: base_of(name, base, job, revision))


def reference_of(model: str, output: Path) -> Path:
    """As ``start_of``, for a reference.

    Nothing stands on it once its log-probs are computed: one that was made of another model is made again.

    Raises:
        ModelError: ``model`` cannot be imported.
    """
    directory, place = Path(model), _beside(output, REFERENCE)
    if (directory / MANIFEST_FILE).is_file():
        return directory
    if not is_adapter(directory):
        return _imported(model, place)
    base = _beside(place, BASE)
    return _adapter_of(directory, place, lambda name, revision: _imported(name, base, revision))


def base_of(model: str, directory: Path, job: Path, revision: str | None = None) -> Path:
    """``directory``, holding the version that ``model``, a directory or hub id, was imported as.

    One that lies there and was made of another model, or of this one before it changed, is made again if ``job`` has
    not trained on it.

    Raises:
        ModelError: ``model`` cannot be imported.
        RefusedError: what lies there was made of something else, and something may stand on it.
    """
    if directory.exists():
        found, wanted = VersionInfo.read(directory).source, source_of(model, revision)
        if not is_made_of(found, wanted) and not _unused(directory, job):
            raise RefusedError(
                f"{directory} was made of {_named(found)}, and --model {model} is {_difference(found, wanted)}; what "
                "was trained on it needs it, so name another --output, or the model it was made of; or remove it and "
                f"{job}, if nothing that stands on it is wanted any more"
            )
    return _imported(model, directory, revision)


def _adapter_of(source: Path, directory: Path, import_base_of: Callable[[str, str | None], Path]) -> Path:
    """``directory``, holding the version that PEFT's adapter in ``source`` was imported as, on its base."""
    adapter = Adapter.read(source)
    name, revision = adapter.base
    base = Path(name)
    if is_adapter(base):
        raise ModelError(
            f"{source}: stands on another adapter, {base}; merge that with `hone merge`, and name the model"
        )
    if not (base / MANIFEST_FILE).is_file():
        try:
            base = import_base_of(name, revision)
        except ModelError as error:
            raise ModelError(f"{source}: the model it stands on: {error}") from error
    refuse_quantized(base, source)
    wanted = source_of(source) | {"base": verify(base)}
    if directory.exists() and is_made_of(VersionInfo.read(directory).source, wanted):
        return directory
    with _replacing(directory) as staged:
        import_adapter(adapter, base, staged)
    return directory


def _imported(model: str, directory: Path, revision: str | None = None) -> Path:
    """``model`` as the version in ``directory``; one that is there stays where it was made of just that."""
    wanted = source_of(model, revision)
    if directory.exists() and is_made_of(VersionInfo.read(directory).source, wanted):
        return directory
    with _replacing(directory) as staged:
        twin = _twin(wanted, directory)
        if twin is None:
            import_base(Path(model) if Path(model).is_dir() else model, staged, revision=revision, converses=False)
        else:
            _link(twin, staged)
    return directory


@contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """A folder to fill, which then takes the place of ``directory``."""
    staged = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    yield staged
    if directory.exists():
        shutil.rmtree(directory)
    publish(staged, directory)


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(f"{place.name}{ending}")


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
    exact = wanted | {"revision": commit_of(wanted["hub"], wanted.get("asked"))} if "hub" in wanted else wanted
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
    places = {str(base.resolve()), f"{base.resolve()}".removesuffix(BASE) + START}
    if start.path not in places or (job / "checkpoints").exists() or any(job.glob("attempt-*")):
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
