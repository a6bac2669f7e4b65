"""Version 1: the base model, brought in by a round."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Project, Round, Version
from app.rounds import service
from app.versions.manifest import verify
from tests.factories.models import version_directory
from tests.factories.rows import make_project
from tests.factories.worlds import make_settings
from worker.context import Context
from worker.rounds import run_rounds


@pytest.fixture
def context(fresh_database: str, tmp_path: Path) -> Iterator[Context]:
    made = Context.build(make_settings(fresh_database, tmp_path / "data"))
    yield made
    made.close()


def ask(context: Context, base_model: str) -> Project:
    with transaction(context.factory) as db:
        project = make_project(db, base_model=base_model)
        service.request_import(db, project)
    return project


def only_round(context: Context) -> Round:
    with transaction(context.factory) as db:
        return db.scalars(select(Round)).one()


def test_a_local_model_becomes_version_1_and_current(context: Context) -> None:
    project = ask(context, str(version_directory("llama")))
    assert run_rounds(context) == 1
    round_ = only_round(context)
    assert (round_.state, round_.error, round_.number) == ("done", None, 0)
    with transaction(context.factory) as db:
        version = db.scalars(select(Version).where(Version.project_id == project.id)).one()
    assert (version.number, version.state, version.kind, version.context_length) == (1, "current", "full", 256)
    assert verify(context.settings.versions_dir / str(version.id)) == version.digest
    assert not list((context.settings.jobs_dir / str(round_.id)).glob("attempt-*"))


def test_a_model_without_safetensors_is_refused_with_the_mend_and_can_be_retried(
    context: Context, tmp_path: Path
) -> None:
    source = tmp_path / "model"
    shutil.copytree(version_directory("llama"), source)
    for name in ("model.safetensors", "manifest.json", "version.json"):
        (source / name).unlink()
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    ask(context, str(source))
    run_rounds(context)
    round_ = only_round(context)
    assert (round_.state, round_.error_code) == ("failed", "refused")
    assert "safetensors" in (round_.error or "")
    assert "save_pretrained" in (round_.error or "")
    assert list(context.settings.versions_dir.glob("*")) == []

    shutil.copyfile(version_directory("llama") / "model.safetensors", source / "model.safetensors")
    with transaction(context.factory) as db:
        service.retry(db, db.get_one(Round, round_.id))
    run_rounds(context)
    assert only_round(context).state == "done"
