"""Filling the buffer, from a real engine process with a tiny model; and what happens when it is not there."""

from collections.abc import Iterator
from datetime import timedelta
from random import Random

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, update

from app.comparisons.queries import ready_count
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import Comparison, Completion, OutboxMessage, Project, Prompt, Version
from app.engine.client import Choice
from app.rounds import service
from app.settings import Settings
from app.versions.files import end_tokens
from tests.factories.models import copy_version, tokenizer, version_directory
from tests.factories.rows import make_project, make_prompt, make_version
from tests.factories.threads import at_once
from tests.factories.worlds import World, make_settings, make_world
from tests.fixtures.logged import Logged
from tests.worker.conftest import RunningEngine
from worker.refill import lease as leases
from worker.refill import refill, store
from worker.refill.sampling import end_of
from worker.tick import low_projects, tick

SAMPLING = {"temperature": 1.0, "max_tokens": 12}
KEPT = {"temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "n", "index"}


@pytest.fixture
def settings(fresh_database: str, shared_engine: RunningEngine) -> Settings:
    return make_settings(fresh_database, shared_engine.data, engine_url=shared_engine.url, engine_secret=SecretStr("s"))


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    made = make_world(settings, votes=0, held_out_votes=0, sampling=SAMPLING, buffer_size=6)
    yield made
    made.context.close()


def prompts(world: World, *texts: str, held_out: bool = False) -> None:
    with transaction(world.context.factory) as db:
        for text in texts:
            make_prompt(db, db.get_one(Project, world.project_id), text=text, held_out=held_out)


def project(world: World) -> Project:
    with transaction(world.context.factory) as db:
        return db.get_one(Project, world.project_id)


def ready(world: World) -> int:
    with transaction(world.context.factory) as db:
        return ready_count(db, db.get_one(Project, world.project_id))


def set_project(world: World, **columns: object) -> None:
    with transaction(world.context.factory) as db:
        db.execute(update(Project).where(Project.id == world.project_id).values(**columns))


def test_the_buffer_is_filled_with_pairs_that_differ_and_can_be_trained_on(world: World) -> None:
    prompts(world, "a boat in the rain", "bread and tea", "a quiet morning")
    prompts(world, "a bright lamp", held_out=True)
    assert refill(world.context, world.project_id) == 6
    assert ready(world) == 6
    ends = end_tokens(world.settings.versions_dir / str(world.version_id))
    with transaction(world.context.factory) as db:
        counts = db.scalars(select(Prompt.sampled_count).order_by(Prompt.sampled_count)).all()
        assert counts == [1, 1, 2, 2], "prompts take turns, the held-out one too"
        pairs = db.scalars(select(Comparison)).all()
        assert {pair.first_left for pair in pairs} <= {"a", "b"}
        for pair in pairs:
            a, b = (db.get_one(Completion, id_) for id_ in (pair.completion_a_id, pair.completion_b_id))
            assert a.text != b.text
            assert a.prompt_ids == b.prompt_ids
            for completion in (a, b):
                assert completion.version_id == world.version_id
                assert (completion.ids[-1] in ends) == (completion.end == "eos")
                assert completion.end in ("eos", "length")
                assert len(completion.ids) <= 12
                assert completion.text.strip()
            for completion in (a, b):
                sampling = completion.sampling
                assert sampling.keys() == KEPT
                assert (sampling["temperature"], sampling["n"]) in ((1.0, 2), (1.25, 1), (1.25, 2))
                assert sampling["index"] < sampling["n"]
                assert (sampling["top_p"], sampling["top_k"], sampling["max_tokens"]) == (1.0, 0, 12)
                assert not completion.spare
    assert refill(world.context, world.project_id) == 0
    after = project(world)
    assert (after.refill_problem, after.refill_failures, after.refill_lease_until) == (None, 0, None)


def test_what_was_sampled_can_be_sampled_again_with_the_stored_seed(world: World) -> None:
    prompts(world, "a boat in the rain")
    set_project(world, buffer_size=1)
    refill(world.context, world.project_id)
    with transaction(world.context.factory) as db:
        stored = db.scalars(select(Completion).order_by(Completion.sampling["index"].as_integer())).all()
        messages = db.scalars(select(Prompt.messages)).one()
    from app.engine.client import Sampling

    settings = stored[0].sampling
    with world.context.engine() as engine:
        again = engine.chat(
            str(world.version_id),
            messages,
            Sampling(settings["temperature"], settings["top_p"], settings["top_k"], settings["max_tokens"]),
            n=settings["n"],
            seed=settings["seed"],
        )
    assert [choice.token_ids for choice in again.choices] == [completion.ids for completion in stored]


def test_of_two_workers_one_fills(world: World) -> None:
    prompts(world, *[f"song number {n}" for n in range(8)])
    made = at_once(*[lambda: refill(world.context, world.project_id)] * 3)
    assert sorted(made) == [0, 0, 6]
    assert ready(world) == 6


def test_answers_that_are_the_same_are_never_paired(world: World) -> None:
    """With one token to choose from (top_k 1) every answer to a prompt is the same, hotter or not."""
    prompts(world, "a boat", "a garden")
    set_project(world, sampling=SAMPLING | {"top_k": 1})
    assert refill(world.context, world.project_id) == 0
    after = project(world)
    assert "same" in (after.refill_problem or "")
    assert "temperature" in (after.refill_problem or "")
    assert after.refill_due_at is not None
    with transaction(world.context.factory) as db:
        assert db.scalar(select(func.count()).select_from(Completion)) == 0
        assert set(db.scalars(select(Prompt.sampled_count))) == {1}


def test_a_prompt_that_is_too_long_is_put_aside_and_the_others_go_on(world: World) -> None:
    prompts(world, "rain " * 400, "a river", "a letter")
    assert refill(world.context, world.project_id) == 6
    with transaction(world.context.factory) as db:
        (problem,) = db.scalars(select(Prompt.problem).where(Prompt.problem.is_not(None))).all()
    assert "256" in problem
    assert "Shorten it" in problem


def test_an_answer_is_as_long_as_the_prompt_leaves_room_for(world: World) -> None:
    """A long prompt, so that the answer is short: long random ones hold characters that Postgres cannot."""
    text, room = "rain", 256
    while room > 24:
        text += " rain"
        messages = [{"role": "user", "content": text}]
        room = 256 - len(tokenizer().apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
    set_project(world, buffer_size=1, sampling=SAMPLING | {"max_tokens": 4096})
    prompts(world, text)
    assert refill(world.context, world.project_id) == 1
    with transaction(world.context.factory) as db:
        for completion in db.scalars(select(Completion)):
            assert len(completion.prompt_ids) + len(completion.ids) <= 256
            assert completion.sampling["max_tokens"] == 256 - len(completion.prompt_ids) == room


def test_an_engine_that_is_down_means_a_visible_backoff_that_grows_and_ends(world: World) -> None:
    prompts(world, "a table")
    down = world.settings.model_copy(update={"engine_url": "http://127.0.0.1:1"})
    context = world.context.__class__(down, world.context.factory, world.context.stopping, Random(0))
    waits = []
    for failures in (1, 2, 3):
        set_project(world, refill_due_at=None)
        assert refill(context, world.project_id) == 0
        after = project(world)
        assert after.refill_failures == failures
        assert "127.0.0.1:1" in (after.refill_problem or "")
        assert after.refill_due_at is not None
        waits.append((after.refill_due_at - utcnow()).total_seconds())
        assert after.refill_lease_until is None
    assert waits[0] < waits[2] <= 60
    assert refill(world.context, world.project_id) == 0, "not before the backoff is over"
    assert low_projects(world.context) == []
    set_project(world, refill_due_at=utcnow() - timedelta(seconds=1))
    assert low_projects(world.context) == [world.project_id]
    assert refill(world.context, world.project_id) == 6
    assert project(world).refill_problem is None


def test_the_backoff_is_never_longer_than_a_minute() -> None:
    rng = Random(1)
    waits = [leases.backoff_seconds(failures, rng) for failures in range(1, 400)]
    assert 1 <= waits[0] <= 2
    assert max(waits) <= 60
    assert len(set(waits)) == len(waits), "jitter"


def test_an_engine_that_sleeps_for_a_round_is_no_failure_and_a_forgotten_one_is_woken(world: World) -> None:
    prompts(world, "a lamp")
    with world.context.engine() as engine:
        engine.sleep()
        try:
            with transaction(world.context.factory) as db:
                training = service.request_import(db, other := _other_project(db))
                training.state, training.lease_token = "training", training.id
                training.lease_expires_at = utcnow() + timedelta(seconds=60)
            assert refill(world.context, world.project_id) == 0
            assert engine.is_sleeping()
            after = project(world)
            assert (after.refill_problem, after.refill_failures) == (None, 0)
            with transaction(world.context.factory) as db:
                db.get_one(type(training), training.id).lease_expires_at = utcnow() - timedelta(seconds=1)
                db.get_one(Project, world.project_id).refill_due_at = None
            refill(world.context, world.project_id)
            assert not engine.is_sleeping()
        finally:
            engine.wake()
    assert other.id != world.project_id
    set_project(world, refill_due_at=None)
    assert refill(world.context, world.project_id) == 6


def _other_project(db: object) -> Project:
    return make_project(db)  # type: ignore[arg-type]


def test_after_a_promotion_in_the_middle_the_old_versions_pairs_are_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promotion is committed after the engine has answered for the old version and before that is stored."""
    prompts(world, *[f"river {n}" for n in range(6)])
    with transaction(world.context.factory) as db:
        second = make_version(db, db.get_one(Project, world.project_id), number=2, state="candidate")
        folder = world.settings.versions_dir / str(second.id)
        copy_version(version_directory("llama"), folder)
        from app.versions.manifest import read_digest

        second.digest = read_digest(folder)
    seen, real = [], store.gone

    def gone(*arguments: object) -> set[object]:
        if not seen:
            with transaction(world.context.factory) as db:
                service.promote(db, db.get_one(Version, second.id), actor=None, settings=world.settings)
        seen.append(real(*arguments))  # type: ignore[arg-type]
        return seen[-1]  # type: ignore[return-value]

    monkeypatch.setattr(store, "gone", gone)
    assert refill(world.context, world.project_id) == 6
    assert seen[0] == {world.version_id}
    with transaction(world.context.factory) as db:
        query = select(Completion.version_id).join(Comparison, Comparison.completion_a_id == Completion.id)
        assert set(db.scalars(query.where(Comparison.state == "open"))) == {second.id}
        assert set(db.scalars(select(Completion.version_id))) == {second.id}


def test_a_version_that_is_damaged_is_said_so(world: World) -> None:
    prompts(world, "a walk")
    (world.settings.versions_dir / str(world.version_id) / "config.json").write_text("{}")
    assert refill(world.context, world.project_id) == 0
    assert "config.json" in (project(world).refill_problem or "")


@pytest.mark.parametrize(
    ("ids", "reason", "expected"),
    [
        ([5, 2], "stop", "eos"),
        ([5, 2], "length", "eos"),
        ([5, 6], "stop", "stop"),
        ([5, 6], "length", "length"),
        ([2, 6], "stop", "stop"),
    ],
)
def test_a_completion_ended_by_itself_if_and_only_if_its_last_token_says_so(
    ids: list[int], reason: str, expected: str
) -> None:
    assert end_of(Choice("x", ids, reason), frozenset({2})) == expected  # type: ignore[arg-type]


def test_what_goes_wrong_with_one_project_keeps_no_other_from_its_turn(world: World, logged: Logged) -> None:
    """Settings that somebody wrote past every check: the tick says whose they are, and does the rest of its work."""
    prompts(world, "a boat")
    with transaction(world.context.factory) as db:
        made = make_project(db, queue={"bad_faith": "quarantine", "min_seconds": "soon"})
        broken, slug = made.id, made.slug
    tick(world.context)
    assert logged.about("the tick goes on without this project") == [{"project": str(broken), "slug": slug}]
    with transaction(world.context.factory) as db:
        asked = select(OutboxMessage.args).where(OutboxMessage.task == "hone.refill")
        assert db.scalars(asked).all() == [[str(world.project_id)]]


def test_a_tick_wakes_the_refill_of_a_low_buffer_once(world: World) -> None:
    prompts(world, "a boat")
    tick(world.context)
    tick(world.context)
    with transaction(world.context.factory) as db:
        tasks = db.scalars(select(OutboxMessage.task)).all()
    assert tasks == ["hone.refill"]
    refill(world.context, world.project_id)
    assert low_projects(world.context) == []


def test_a_project_without_prompts_or_version_is_left_alone(world: World) -> None:
    assert refill(world.context, world.project_id) == 0
    assert low_projects(world.context) == []
    assert project(world).refill_problem is None
