"""Promotions with vLLM or SGLang in the engine's place: adapters come and go, full models change hands by address."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from random import Random
from threading import Thread
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app.comparisons.queries import ready_count
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import AuditEntry, Comparison, Completion, Project, Version
from app.engine.client import EngineClient, Sampling
from app.versions.manifest import Base, VersionInfo, read_digest, write_manifest
from tests.factories.models import copy_version, version_directory
from tests.factories.other_engines import OtherEngine, other_engine
from tests.factories.rows import make_prompt, make_version
from tests.factories.worlds import World, make_settings, make_world
from tests.fixtures.logged import Logged
from worker.context import Context
from worker.refill import refill
from worker.serving import serve

ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture
def world(fresh_database: str, tmp_path: Path) -> Iterator[World]:
    settings = make_settings(fresh_database, tmp_path, engine_timeout_seconds=5.0)
    made = make_world(settings, votes=0, held_out_votes=0, sampling={"max_tokens": 12}, buffer_size=3)
    with transaction(made.context.factory) as db:
        for number in range(12):
            make_prompt(db, db.get_one(Project, made.project_id), text=f"river {number}")
    yield made
    made.context.close()


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def with_engines(world: World, *engines: OtherEngine) -> Context:
    changes = {"engine_url": ",".join(engine.url for engine in engines), "engine_kind": engines[0].kind}
    return Context(world.settings.model_copy(update=changes), world.context.factory, world.context.stopping, Random(0))


def promoted(world: World, number: int, *, adapter: bool) -> UUID:
    """A new current version: an adapter on version 1, or a full model."""
    folder_of = world.settings.versions_dir
    with transaction(world.context.factory) as db:
        kind = "adapter" if adapter else "full"
        made = make_version(db, db.get_one(Project, world.project_id), number=number, kind=kind, context_length=256)
        folder = folder_of / str(made.id)
        if adapter:
            folder.mkdir()
            (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
            base = Base(version=str(world.version_id), digest=read_digest(folder_of / str(world.version_id)))
            VersionInfo(kind="adapter", context_length=256, base=base).write(folder)
            write_manifest(folder)
        else:
            copy_version(version_directory("llama", number), folder)
        made.digest = read_digest(folder)
        return made.id


def vote_away(world: World) -> None:
    """The buffer is empty, and whatever kept the refill waiting is over."""
    with transaction(world.context.factory) as db:
        db.execute(update(Comparison).values(state="withdrawn"))
        db.execute(update(Project).values(refill_due_at=None))


def problem(world: World) -> str:
    with transaction(world.context.factory) as db:
        return db.scalar(select(Project.refill_problem)) or ""


def served_by(world: World) -> dict[int, str | None]:
    with transaction(world.context.factory) as db:
        return {version.number: version.served_by for version in db.scalars(select(Version))}


def samplers(world: World) -> set[UUID | None]:
    with transaction(world.context.factory) as db:
        return set(db.scalars(select(Completion.version_id)))


def _ask_late(engine: OtherEngine, model: str) -> None:
    with EngineClient(engine.url) as client:
        client.chat(model, ASKED, Sampling(), n=1, seed=7)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_an_adapter_comes_under_its_own_name_and_leaves_after_its_last_request(
    world: World, held: ExitStack, kind: str
) -> None:
    engine = held.enter_context(other_engine(str(world.version_id), kind))
    context = with_engines(world, engine)
    second = promoted(world, 2, adapter=True)
    assert refill(context, world.project_id) == 3, "asked for before anybody pushed it: it is pushed then"
    serve(context)
    assert served_by(world) == {1: engine.url, 2: engine.url}

    vote_away(world)
    late = Thread(target=_ask_late, args=(engine, str(second)))
    if kind == "vllm":  # SGLang itself waits for the last request before it unloads
        engine.go_on.clear()
        late.start()
        while not engine.running[str(second)]:
            late.join(0.01)
    third = promoted(world, 3, adapter=True)
    serve(context)
    assert str(third) in engine.adapters, "pushed without being asked for"
    if kind == "vllm":
        assert str(second) in engine.adapters, "somebody still waits for its answer"
        engine.go_on.set()
        late.join()
        assert engine.asked.pop() == (str(second), "hello", 7)
    serve(context)
    assert set(engine.adapters) == {str(third)}
    assert served_by(world) == {1: engine.url, 2: None, 3: engine.url}
    assert refill(context, world.project_id) == 3
    with transaction(world.context.factory) as db:
        acts = [row.action for row in db.scalars(select(AuditEntry).order_by(AuditEntry.id)) if "serve" in row.action]
        gone = db.scalars(select(AuditEntry).where(AuditEntry.action == "version.unload")).one()
    assert (len(acts), gone.data["number"]) == (3, 2)
    assert samplers(world) == {second, third}
    assert {UUID(model) for model, _, _ in engine.asked} == {second, third}
    assert len(engine.asked) == len(set(engine.asked)) == 6, "no prompt was sampled twice"


def test_a_vllm_that_tells_nothing_is_given_time(world: World, held: ExitStack) -> None:
    engine = held.enter_context(other_engine(str(world.version_id)))
    engine.tells_of_work = False
    context = with_engines(world, engine)
    second = promoted(world, 2, adapter=True)
    serve(context)
    promoted(world, 3, adapter=True)
    serve(context)
    assert str(second) in engine.adapters, "for as long as an answer may take"
    with transaction(world.context.factory) as db:
        db.execute(update(Version).where(Version.id == second).values(retired_at=utcnow() - timedelta(hours=1)))
    serve(context)
    assert str(second) not in engine.adapters


def test_full_models_change_hands_by_address(world: World, held: ExitStack) -> None:
    blue = held.enter_context(other_engine(str(world.version_id)))
    context = with_engines(world, blue)
    assert refill(context, world.project_id) == 3
    vote_away(world)
    second = promoted(world, 2, adapter=False)
    serve(context)
    assert refill(context, world.project_id) == 0
    assert "full model" in problem(world)
    assert str(second) in problem(world)
    assert "HONE_ENGINE_URL" in problem(world)

    green = held.enter_context(other_engine(str(second)))
    context = with_engines(world, blue, green)
    vote_away(world)
    assert refill(context, world.project_id) == 3
    serve(context)
    assert served_by(world) == {1: blue.url, 2: green.url}
    assert {model for model, _, _ in blue.asked} == {str(world.version_id)}
    assert {model for model, _, _ in green.asked} == {str(second)}
    assert problem(world) == ""


FLAT = {"object": "error", "message": "EngineCore encountered an issue", "type": "InternalServerError", "code": 500}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("half", "POST"),
        ("hang up", "POST"),
        ((500, FLAT), "EngineCore"),
        ("token_ids", "return_token_ids"),
        ("finish_reason", "finish_reason"),
    ],
)
def test_one_bad_answer_loses_no_other_and_samples_none_twice(
    world: World, held: ExitStack, fault: object, told: str
) -> None:
    """Sixteen prompts are in flight; one answer is spoilt. The others are kept, and only it is asked for again."""
    engine = held.enter_context(other_engine(str(world.version_id)))
    context = with_engines(world, engine)
    engine.faults = [fault]
    refill(context, world.project_id)
    assert told in problem(world)
    vote_away(world)
    refill(context, world.project_id)
    assert problem(world) == ""
    with transaction(world.context.factory) as db:
        assert ready_count(db, db.get_one(Project, world.project_id)) == 3
        stored = db.scalars(select(Completion.sampling)).all()
    assert len(stored) == 2 * len(engine.asked), "every answer that came is kept, two completions each"
    assert {(row["seed"], row["index"]) for row in stored} == {(seed, i) for _, _, seed in engine.asked for i in (0, 1)}


def test_why_an_adapter_does_not_load_is_shown_and_tried_again(world: World, held: ExitStack, logged: Logged) -> None:
    engine = held.enter_context(other_engine(str(world.version_id)))
    context = with_engines(world, engine)
    promoted(world, 2, adapter=True)
    message = "LoRA rank 64 is greater than max_lora_rank 16."
    engine.load_faults = [(500, {"error": {"message": message, "type": "InternalServerError", "code": 500}})] * 40
    serve(context)
    with transaction(world.context.factory) as db:
        slug = db.get_one(Project, world.project_id).slug
    assert logged.about("cannot be pushed") == [{"project": str(world.project_id), "slug": slug}]
    assert refill(context, world.project_id) == 0
    assert "max_lora_rank" in problem(world)
    engine.load_faults = []
    vote_away(world)
    assert refill(context, world.project_id) == 3
    assert problem(world) == ""
