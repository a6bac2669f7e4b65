"""What reviewers wrote becomes tokens of the model that is trained, once."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Completion, Project, User, Version
from app.settings import Settings
from tests.factories.models import tokenizer
from tests.factories.rows import make_vote
from tests.factories.worlds import World, make_pair, make_settings, make_world
from worker.rounds.corrections import tokenise_corrections
from worker.rounds.errors import RoundFailedError


@pytest.fixture
def settings(fresh_database: str, tmp_path: Path) -> Settings:
    return make_settings(fresh_database, tmp_path / "data")


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    made = make_world(settings, votes=0, held_out_votes=0)
    yield made
    made.context.close()


def correct(world: World, text: str) -> None:
    with transaction(world.context.factory) as db:
        project, version = db.get_one(Project, world.project_id), db.get_one(Version, world.version_id)
        pair = make_pair(db, project, version, random.Random(len(text)))
        make_vote(db, pair, choice="b", corrected=text, reviewer=db.get_one(User, world.reviewer_id))


def folder(world: World) -> Path:
    return world.settings.versions_dir / str(world.version_id)


def humans(world: World) -> list[Completion]:
    with transaction(world.context.factory) as db:
        return list(db.scalars(select(Completion).where(Completion.end == "human").order_by(Completion.id)))


def test_an_edit_is_in_the_models_own_tokens_and_ends(world: World) -> None:
    text = "the better answer"
    correct(world, text)
    assert tokenise_corrections(world.context, world.project_id, folder(world)) == 1
    (made,) = humans(world)
    tokens = tokenizer()
    assert made.ids == [*tokens.encode(text, add_special_tokens=False), tokens.eos_token_id]
    assert made.version_id is None
    assert made.prompt_ids
    assert tokenise_corrections(world.context, world.project_id, folder(world)) == 0
    assert len(humans(world)) == 1


def test_nothing_is_tokenised_where_the_project_does_not_want_corrections(world: World) -> None:
    correct(world, "the better answer")
    with transaction(world.context.factory) as db:
        db.get_one(Project, world.project_id).aggregation = {"corrections": False}
    assert tokenise_corrections(world.context, world.project_id, folder(world)) == 0
    assert humans(world) == []


def test_a_model_without_a_fast_tokenizer_fails_the_round_in_words(world: World, tmp_path: Path) -> None:
    correct(world, "the better answer")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text(json.dumps({"eos_token_id": 2}))
    with pytest.raises(RoundFailedError, match=r"tokenizer\.json") as failed:
        tokenise_corrections(world.context, world.project_id, tmp_path / "bare")
    assert failed.value.code == "no_tokenizer"
