"""The finished version: model, tokenizer, version.json and manifest, moved into place as one."""

import os
import shutil
from pathlib import Path
from typing import Any

from app.rounds.spec import Spec
from app.versions.manifest import Parent, VersionInfo, publish, write_manifest
from worker.models import libraries
from worker.trainer.policy import Policy

VERSION_DIRECTORY = "version"


def publish_version(
    attempt: Path, policy: Policy, spec: Spec, *, context_length: int, metrics: dict[str, Any]
) -> tuple[Path, str]:
    """Write ``attempt/version``; returns it and its digest."""
    staged, final = attempt / f".{VERSION_DIRECTORY}", attempt / VERSION_DIRECTORY
    shutil.rmtree(staged, ignore_errors=True)
    try:
        policy.save(staged)
        VersionInfo(
            kind=policy.kind,
            context_length=context_length,
            base=policy.base,
            parent=Parent(version=spec.start.version, digest=spec.start.digest),
            spec=spec.to_dict(),
            snapshot_hash=spec.snapshot_hash,
            metrics=metrics,
            libraries=libraries(),
        ).write(staged)
        make_readable(staged)
        digest = write_manifest(staged)
        publish(staged, final)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return final, digest


def make_readable(directory: Path) -> None:
    """Let all read the files below ``directory`` whom the umask lets; safetensors are written for their owner alone."""
    for file in directory.rglob("*"):
        if file.is_file():
            file.chmod(0o644 & ~_umask())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
