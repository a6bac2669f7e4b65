"""One job of the trainer: its files, its spec.json, and how it ends."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from app.language import _
from app.rounds.spec.checks import SpecError, text
from app.rounds.spec.settings import TrainingSettings

SCHEMA = 1
SPEC_FILE = "spec.json"
GROUPS_FILE = "groups.jsonl"
METRICS_FILE = "metrics.jsonl"


class ExitCode(IntEnum):
    """How ``python -m worker.trainer`` ends; its last line on stderr says why and what to do."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    OUT_OF_MEMORY = 3
    OUT_OF_DISK = 4
    NOT_FINITE = 5
    LOCKED = 6
    STOPPED = 143


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A version directory by path, with its id (None outside a project) and the digest it must have."""

    path: str
    digest: str
    version: str | None = None

    @classmethod
    def from_dict(cls, name: str, data: object) -> "ModelRef":
        """Raises SpecError unless ``data`` is an object with a path and a digest."""
        if not isinstance(data, Mapping) or not {"path", "digest"} <= data.keys():
            raise SpecError(name, _("must be an object with 'path', 'digest' and, in a project, 'version'"))
        unknown = sorted(data.keys() - {"path", "digest", "version"})
        if unknown:
            raise SpecError(f"{name}.{unknown[0]}", _("unknown; known are path, digest, version"))
        version = data.get("version")
        return cls(
            path=text(f"{name}.path", data["path"]),
            digest=text(f"{name}.digest", data["digest"]),
            version=None if version is None else text(f"{name}.version", version),
        )


@dataclass(frozen=True, slots=True)
class Spec:
    """spec.json of a job: what to train, from where, against what."""

    settings: TrainingSettings
    start: ModelRef
    """The version the round starts from: the new version's parent."""
    reference: ModelRef
    """The reference model; equal to ``start`` unless the project asks for its base."""
    snapshot_hash: str | None = None
    reference_store: str | None = None
    """Directory of stored reference log-probs, shared by rounds; None: ``reference/`` in the job's directory."""
    schema: int = SCHEMA

    @classmethod
    def from_dict(cls, data: object) -> "Spec":
        """Raises SpecError, naming the field."""
        if not isinstance(data, Mapping):
            raise SpecError("spec", _("must be an object, not %(name)s", name=type(data).__name__))
        if data.get("schema") != SCHEMA:
            raise SpecError(
                "schema", _("%(data)s, this program reads %(schema)s", data=repr(data.get("schema")), schema=SCHEMA)
            )
        names = {f.name for f in fields(cls)}
        for name in data:
            if name not in names:
                raise SpecError(str(name), _("unknown; known are %(names)s", names=", ".join(sorted(names))))
        snapshot, store = data.get("snapshot_hash"), data.get("reference_store")
        return cls(
            settings=TrainingSettings.from_dict(data.get("settings", {})),
            start=ModelRef.from_dict("start", data.get("start")),
            reference=ModelRef.from_dict("reference", data.get("reference")),
            snapshot_hash=None if snapshot is None else text("snapshot_hash", snapshot),
            reference_store=None if store is None else text("reference_store", store),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` of it gives an equal spec."""
        return asdict(self) | {"settings": self.settings.to_dict()}

    @classmethod
    def read(cls, job: Path) -> "Spec":
        """The spec.json of the job directory ``job``. Raises SpecError, also when it is missing or not JSON."""
        file = job / SPEC_FILE
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SpecError("spec", _("%(file)s cannot be read: %(error)s", file=file, error=error)) from error
        return cls.from_dict(data)

    def write(self, job: Path) -> None:
        """Write spec.json into ``job``, atomically."""
        staged = job / f".{SPEC_FILE}.new"
        staged.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        staged.replace(job / SPEC_FILE)

    def with_settings(self, **changes: Any) -> "Spec":
        """This spec with some settings changed."""
        return replace(self, settings=self.settings.with_changes(**changes))
