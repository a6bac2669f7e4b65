"""What the refill makes of a project's settings: strategies, versions set against each other, rankings, the pace.

The engine is real, its model tiny. Failures of an engine are played by one that answers as it is told.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from random import Random
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, update

from app.comparisons import refill_counts
from app.comparisons.pace import buffer_target, votes_per_minute
from app.comparisons.queries import ready_count
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import (
    Comparison,
    ComparisonItem,
    ComparisonSlot,
    Completion,
    OutboxMessage,
    Project,
    Prompt,
    Round,
    User,
    Version,
)
from app.journal.queues import REFILL
from app.projects.service import update_project
from app.rounds import blind
from app.settings import Settings
from app.versions.manifest import read_digest
from tests.factories.models import copy_version, version_directory
from tests.factories.other_engines import Listening
from tests.factories.rows import make_comparison, make_project, make_prompt, make_user, make_version, make_vote
from tests.factories.worlds import World, make_settings, make_world
from tests.worker.conftest import RunningEngine
from worker.context import Context
from worker.refill import refill
from worker.tick import tick

SAMPLING = {"temperature": 1.0, "max_tokens": 12}


@pytest.fixture
def settings(fresh_database: str, shared_engine: RunningEngine) -> Settings:
    return make_settings(fresh_database, shared_engine.data, engine_url=shared_engine.url, engine_secret=SecretStr("s"))


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    made = make_world(settings, votes=0, held_out_votes=0, sampling=SAMPLING, buffer_size=6)
    yield made
    made.context.close()


def prompts(world: World, count: int, *, held_out: bool = False) -> None:
    with transaction(world.context.factory) as db:
        for number in range(count):
            make_prompt(db, db.get_one(Project, world.project_id), text=f"river {number} {held_out}", held_out=held_out)


def set_project(world: World, **columns: object) -> None:
    with transaction(world.context.factory) as db:
        db.execute(update(Project).where(Project.id == world.project_id).values(**columns))


def add_version(world: World, number: int, state: str, seed: int, **columns: object) -> UUID:
    """Another tiny model, on disk and in the database."""
    with transaction(world.context.factory) as db:
        project = db.get_one(Project, world.project_id)
        made = make_version(db, project, number=number, state=state, context_length=256, **columns)
        folder = world.settings.versions_dir / str(made.id)
        copy_version(version_directory("llama", seed), folder)
        made.digest = read_digest(folder)
        return made.id


def comparisons(world: World) -> list[tuple[Comparison, set[UUID | None]]]:
    with transaction(world.context.factory) as db:
        pairs = db.scalars(select(Comparison).order_by(Comparison.created_at)).all()
        return [
            (
                pair,
                {db.get_one(Completion, id_).version_id for id_ in (pair.completion_a_id, pair.completion_b_id)},
            )
            for pair in pairs
        ]


def counts(world: World) -> dict[str, int]:
    with transaction(world.context.factory) as db:
        found = refill_counts.totals(db, db.get_one(Project, world.project_id))
    return {what: count for what, count in found.items() if count and what != "seconds"}


def test_a_strategy_samples_more_than_it_shows_and_logs_the_probability_of_each_choice(world: World) -> None:
    prompts(world, 20)
    set_project(world, refilling={"strategy": "diversity", "exploration": 0.25, "pool_factor": 3, "buffer_minutes": 0})
    assert refill(world.context, world.project_id) == 6
    made = [pair for pair, _ in comparisons(world)]
    assert {pair.strategy for pair in made} == {"diversity"}
    for pair in made:
        assert pair.propensity is not None
        assert 0 < pair.propensity <= 1
        assert pair.importance == pytest.approx(1 / pair.propensity), "one pair a prompt"
        assert pair.selection["pool"] > pair.selection["chosen"]
    found = counts(world)
    assert found["formed"] == 6
    assert found["sampled"] >= 2 * (6 + found["passed_over"])
    with transaction(world.context.factory) as db:
        assert db.scalar(select(func.count()).where(Completion.spare)) == 0, "what was passed over is no even draw"
        assert db.scalar(select(func.count()).select_from(Completion)) >= 2 * 12


def test_held_out_prompts_are_drawn_evenly_whatever_the_strategy(world: World) -> None:
    prompts(world, 6)
    prompts(world, 6, held_out=True)
    set_project(world, buffer_size=8, refilling={"strategy": "diversity", "buffer_minutes": 0})
    refill(world.context, world.project_id)
    with transaction(world.context.factory) as db:
        rows = db.execute(
            select(Prompt.held_out, Comparison.strategy).join(Comparison, Comparison.prompt_id == Prompt.id)
        ).all()
    assert {row.strategy for row in rows if row.held_out} <= {"random"}
    assert {row.strategy for row in rows if not row.held_out} == {"diversity"}


def test_margins_of_the_implicit_reward_are_recorded_at_sampling(world: World) -> None:
    """The current version was trained from version 1 with beta 0.3; the reward is what both versions' log-probs say."""
    first = world.version_id
    second = add_version(world, 2, "current", seed=1, parent_id=first)
    with transaction(world.context.factory) as db:
        db.add(
            Round(
                project_id=world.project_id,
                number=1,
                trigger="button",
                state="done",
                parent_id=first,
                reference_id=first,
                version_id=second,
                settings={"loss": "sigmoid", "loss_settings": {"beta": 0.3}},
            )
        )
    prompts(world, 8)
    set_project(world, buffer_size=2, refilling={"strategy": "uncertainty", "buffer_minutes": 0, "pool_factor": 2})
    assert refill(world.context, world.project_id) == 2
    with transaction(world.context.factory) as db:
        answers = db.scalars(select(Completion)).all()
        pair = db.scalars(select(Comparison)).first()
        assert pair is not None
        sides = [db.get_one(Completion, id_) for id_ in (pair.completion_a_id, pair.completion_b_id)]
    with world.context.engine() as engine:
        for answer in answers[:2]:
            policy = sum(engine.logprobs(str(second), answer.prompt_ids, answer.ids))
            reference = sum(engine.logprobs(str(first), answer.prompt_ids, answer.ids))
            assert answer.scores["logp"] == pytest.approx(policy, abs=1e-3)
            assert answer.scores["reward"] == pytest.approx(0.3 * (policy - reference), abs=1e-3)
            assert answer.scores["reference"] == str(first)
    margin = abs(sides[0].scores["reward"] - sides[1].scores["reward"])
    assert pair.selection["margin"] == pytest.approx(margin)


def test_the_information_strategy_reads_the_votes(world: World) -> None:
    world.vote(5)
    prompts(world, 8)
    set_project(world, buffer_size=2, refilling={"strategy": "information", "buffer_minutes": 0})
    assert refill(world.context, world.project_id) == 2
    scores = [pair.selection.get("score") for pair, _ in comparisons(world) if pair.strategy == "information"]
    assert len(scores) == 2
    assert all(score is None or 0 <= score <= 1 for score in scores)


def test_pairs_are_formed_of_several_answers_and_the_rest_waits_for_the_prompts_next_turn(world: World) -> None:
    prompts(world, 1)
    set_project(world, buffer_size=2, reviewing={"answers": 4}, refilling={"pairs_per_prompt": 2, "buffer_minutes": 0})
    assert refill(world.context, world.project_id) == 2
    made = [pair for pair, _ in comparisons(world)]
    assert [pair.propensity for pair in made] == pytest.approx([2 / 6] * 2)
    assert [pair.importance for pair in made] == pytest.approx([0.5] * 2), "together they stand for their prompt"
    with transaction(world.context.factory) as db:
        total = db.scalar(select(func.count()).select_from(Completion)) or 0
        spare = db.scalar(select(func.count()).where(Completion.spare)) or 0
    assert total == 4
    set_project(world, buffer_size=4)
    assert refill(world.context, world.project_id) == 2
    with transaction(world.context.factory) as db:
        assert db.scalar(select(func.count()).select_from(Completion)) == 8 - spare, "the spare ones came first"


def test_a_change_between_pairs_and_rankings_takes_the_others_out_of_the_queue(world: World) -> None:
    prompts(world, 3)
    set_project(world, buffer_size=3, refilling={"buffer_minutes": 0})
    refill(world.context, world.project_id)
    with transaction(world.context.factory) as db:
        judged = db.scalars(select(Comparison)).first()
        assert judged is not None
        make_vote(db, judged, choice="a")
        judged.state = "open"  # another vote is still asked for
        project = db.get_one(Project, world.project_id)
        update_project(db, project, reviewing={"mode": "ranking", "answers": 3})
        assert db.scalars(select(OutboxMessage.task)).all()[-1] == REFILL
    refill(world.context, world.project_id)
    with transaction(world.context.factory) as db:
        modes = Counter((row.mode, row.state) for row in db.execute(select(Comparison.mode, Comparison.state)))
        assert modes["pair", "open"] == 1
        assert modes["pair", "withdrawn"] == 2
        assert modes["ranking", "open"] >= 2


def test_a_ranking_project_gets_all_answers_in_one_comparison(world: World) -> None:
    prompts(world, 3)
    set_project(world, buffer_size=3, reviewing={"mode": "ranking", "answers": 4}, refilling={"buffer_minutes": 0})
    assert refill(world.context, world.project_id) == 3
    with transaction(world.context.factory) as db:
        assert set(db.scalars(select(Comparison.mode))) == {"ranking"}
        sizes = db.scalars(select(func.count()).select_from(ComparisonItem).group_by(ComparisonItem.comparison_id))
        assert set(sizes) == {4}


def test_versions_are_set_against_each_other_at_the_projects_shares(world: World) -> None:
    first = world.version_id
    second = add_version(world, 2, "current", seed=1, parent_id=first)
    third = add_version(world, 3, "candidate", seed=2, parent_id=second)
    prompts(world, 30)
    shares = {"previous_percent": 40, "candidate_percent": 40, "buffer_minutes": 0}
    set_project(world, buffer_size=30, refilling=shares)
    assert refill(world.context, world.project_id) == 30
    versions = {"current": {second}, "previous": {first, second}, "candidate": {second, third}}
    seen = Counter(pair.kind for pair, _ in comparisons(world))
    for pair, wrote in comparisons(world):
        assert wrote == versions[pair.kind]
    assert 5 <= seen["previous"] <= 20
    assert 5 <= seen["candidate"] <= 20
    assert seen["current"] >= 1
    with transaction(world.context.factory) as db:
        on_a = db.scalars(
            select(Completion.version_id == second)
            .join(Comparison, Comparison.completion_a_id == Completion.id)
            .where(Comparison.kind != "current")
        ).all()
    assert len(set(on_a)) == 2, "the current version is not always the comparison's first"


def test_a_share_for_a_version_that_is_not_there_goes_to_the_current_one(world: World) -> None:
    prompts(world, 6)
    set_project(world, refilling={"previous_percent": 45, "candidate_percent": 45, "buffer_minutes": 0})
    assert refill(world.context, world.project_id) == 6
    assert {pair.kind for pair, _ in comparisons(world)} == {"current"}


def test_the_gates_comparisons_are_formed_first_and_among_those_that_wait(world: World) -> None:
    prompts(world, 10)
    prompts(world, 3, held_out=True)
    set_project(world, promotion="gate", gate={"comparisons": 4})
    refill(world.context, world.project_id)
    candidate = add_version(world, 2, "candidate", seed=1, parent_id=world.version_id, gate_state="open")
    assert refill(world.context, world.project_id) == 4, "although the buffer is full"
    gate = [(pair, wrote) for pair, wrote in comparisons(world) if pair.kind == "gate"]
    assert [wrote for _, wrote in gate] == [{world.version_id, candidate}] * 4
    with transaction(world.context.factory) as db:
        held_out = db.scalars(
            select(Prompt.held_out).join(Comparison, Comparison.prompt_id == Prompt.id).where(Comparison.kind == "gate")
        ).all()
        keys = select(ComparisonSlot.queue_key).join(Comparison, Comparison.id == ComparisonSlot.comparison_id)
        others = db.scalars(keys.where(Comparison.kind == "current")).all()
        mine = db.scalars(keys.where(Comparison.kind == "gate")).all()
        project, version = db.get_one(Project, world.project_id), db.get_one(Version, candidate)
        assert blind.standing(db, project, version).missing == 0
    assert sum(held_out) == 3, "prompts that it has not learned from come first"
    assert min(mine) < max(others), "they do not stand at the end of the line"
    assert refill(world.context, world.project_id) == 0


def test_the_buffer_follows_the_pace_of_voting(world: World) -> None:
    with transaction(world.context.factory) as db:
        project, now = make_project(db, buffer_size=6, votes_per_comparison=2), utcnow()
        version, reviewer = make_version(db, project), make_user(db)
        for minute in range(30):
            pair = make_comparison(db, project, version=version)
            make_vote(db, pair, reviewer=reviewer, created_at=now - timedelta(minutes=minute % 10, seconds=1))
        assert votes_per_minute(db, project.id, now=now) == 3.0
        assert buffer_target(db, project, now=now) == 15, "3 votes a minute, 2 a pair, for 10 minutes"
        project.refilling = {"buffer_minutes": 60, "buffer_most": 40}
        assert buffer_target(db, project, now=now) == 40
        project.refilling = {"buffer_minutes": 0}
        assert buffer_target(db, project, now=now) == 6
        project.refilling = {}
        assert buffer_target(db, project, now=now + timedelta(hours=2)) == 6, "nobody votes any more"


class _Played:
    """An engine that answers as it is told: ``answer(path, body)`` gives status, headers and a JSON body."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], tuple[int, dict[str, str], Any]]) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"] or 0)) or b"{}")
                played.asked.append((self.path, body))
                self._send(*answer(self.path, body))

            def do_GET(self) -> None:
                self._send(200, {}, {"is_sleeping": False})

            def _send(self, status: int, headers: dict[str, str], body: Any) -> None:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {
                    "content-type": "application/json",
                    "content-length": str(len(raw)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                return

        self._server = Listening(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def said(*texts: str) -> dict[str, Any]:
    """A chat answer with these completions."""
    return {
        "prompt_token_ids": [1, 5],
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "token_ids": [*(sum(map(ord, word)) for word in text.split()), 2],
            }
            for index, text in enumerate(texts)
        ],
    }


def played_by(world: World, engine: _Played) -> Context:
    changed = world.settings.model_copy(update={"engine_url": engine.url})
    return Context(changed, world.context.factory, world.context.stopping, Random(0))


def test_faults_are_resampled_hotter_then_dropped_and_counted(world: World) -> None:
    """First two of a kind, then one that goes in circles, and at the prompt's next turn two that can be told apart."""
    loop = "round and round " * 12
    turns = [said("A quiet boat.", "a quiet  BOAT."), said(loop), said("Tea, please.", "Bread, thanks.")]
    prompts(world, 1)
    set_project(world, buffer_size=1)
    with closing(_Played(lambda _path, _body: (200, {}, turns.pop(0)))) as engine:
        context = played_by(world, engine)
        assert refill(context, world.project_id) == 0
        set_project(world, refill_due_at=None)
        assert refill(context, world.project_id) == 1
        heat = [body["temperature"] for _, body in engine.asked]
    assert heat == [1.0, 1.25, 1.0]
    assert [body["n"] for _, body in engine.asked] == [2, 1, 2]
    assert counts(world) == {"sampled": 5, "resampled": 1, "identical": 1, "looping": 1, "no_pair": 1, "formed": 1}


def test_of_two_versions_that_say_the_same_either_is_asked_again_hotter(world: World) -> None:
    """Both always say the same at the project's temperature; the gate must not judge one of them by hotter answers."""
    prompts(world, 16)
    set_project(world, buffer_size=1, promotion="gate", gate={"comparisons": 16})
    candidate = add_version(world, 2, "candidate", seed=1, parent_id=world.version_id, gate_state="open")

    def answer(_path: str, body: dict[str, Any]) -> Any:
        return 200, {}, said("A quiet boat." if body["temperature"] == 1.0 else "Tea, please.")

    with closing(_Played(answer)) as engine:
        refill(played_by(world, engine), world.project_id)
    with transaction(world.context.factory) as db:
        hot = db.scalars(
            select(Completion.version_id)
            .join(Comparison, Completion.id.in_([Comparison.completion_a_id, Comparison.completion_b_id]))
            .where(Comparison.kind == "gate", Completion.sampling["temperature"].as_float() > 1.0)
        ).all()
    assert len(hot) == 16
    assert 3 <= hot.count(candidate) <= 13


def test_what_came_before_the_engine_failed_is_kept_and_not_sampled_again(world: World) -> None:
    """One good answer and its twin, then the engine is down; after the backoff only the missing one is asked for."""
    turns: list[tuple[int, dict[str, str], Any]] = [
        (200, {}, said("A quiet boat.", "A quiet boat.")),
        (503, {"retry-after": "300"}, {"error": {"message": "overloaded"}}),
        (200, {}, said("Bread and tea.")),
    ]
    prompts(world, 1)
    set_project(world, buffer_size=1)
    with closing(_Played(lambda _path, _body: turns.pop(0))) as engine:
        context = played_by(world, engine)
        assert refill(context, world.project_id) == 0
        with transaction(world.context.factory) as db:
            project = db.get_one(Project, world.project_id)
            assert "overloaded" in (project.refill_problem or "")
            assert project.refill_due_at is not None
            assert project.refill_due_at - utcnow() > timedelta(seconds=290), "as long as the engine asked for"
            assert db.scalars(select(Completion.text).where(Completion.spare)).all() == ["A quiet boat."]
            assert db.scalar(select(Prompt.sampled_count)) == 0, "it keeps its turn"
        set_project(world, refill_due_at=None)
        assert refill(context, world.project_id) == 1
        assert [body["n"] for _, body in engine.asked] == [2, 1, 1]
    with transaction(world.context.factory) as db:
        project = db.get_one(Project, world.project_id)
        assert project.refill_problem is None
        assert "overloaded" in (project.refill_last_error or ""), "it can still be seen what was the matter"
        assert project.refill_last_error_at is not None
        assert sorted(db.scalars(select(Completion.text))) == ["A quiet boat.", "Bread and tea."]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>a proxy's page</html>", "not JSON"),
        ({"choices": []}, "2 completions were asked for, 0 came back"),
        (said("only one"), "2 completions were asked for, 1 came back"),
    ],
)
def test_nonsense_means_a_visible_backoff_and_voting_goes_on(world: World, body: object, told: str) -> None:
    prompts(world, 2)
    with transaction(world.context.factory) as db:
        make_comparison(
            db, db.get_one(Project, world.project_id), version=db.get_one(Version, world.version_id), slots=1
        )
    with closing(_Played(lambda _path, _body: (200, {}, body))) as engine:
        assert refill(played_by(world, engine), world.project_id) == 0
    with transaction(world.context.factory) as db:
        project = db.get_one(Project, world.project_id)
        assert told in (project.refill_problem or "")
        assert project.refill_failures == 1
        assert project.refill_lease_until is None
        assert ready_count(db, project) == 1


def test_a_slow_engine_is_given_up_on_in_time_and_said_to_be_slow(world: World) -> None:
    prompts(world, 1)
    over = Event()

    def answer(_path: str, _body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        over.wait(30)
        return 200, {}, said("Too late.", "Much too late.")

    with closing(_Played(answer)) as engine:
        context = played_by(world, engine)
        hasty = context.settings.model_copy(update={"engine_timeout_seconds": 0.3})
        assert refill(Context(hasty, context.factory, context.stopping, Random(0)), world.project_id) == 0
        over.set()
    with transaction(world.context.factory) as db:
        project = db.get_one(Project, world.project_id)
        assert "timed out" in (project.refill_problem or "")
        assert project.refill_failures == 1


def test_a_gate_is_asked_voted_on_and_decided(world: World) -> None:
    """From an open gate to the promoted version: the refill forms its pairs, people vote, the tick promotes."""
    prompts(world, 12)
    columns = {"comparisons": 5, "min_win_rate": 0.5, "max_length_ratio": 50.0}
    set_project(world, buffer_size=2, promotion="gate", gate=columns)
    good = {"eval": {"end": {"accuracy": 0.7, "kl": 1.0, "pairs": 9}}}
    candidate = add_version(world, 2, "candidate", seed=1, parent_id=world.version_id, gate_state="open", metrics=good)
    refill(world.context, world.project_id)
    tick(world.context)
    assert world.versions() == [(1, "current"), (2, "candidate")]
    with transaction(world.context.factory) as db:
        reviewer = db.get_one(User, world.reviewer_id)
        for pair in db.scalars(select(Comparison).where(Comparison.kind == "gate")).all():
            new = db.get_one(Completion, pair.completion_a_id).version_id == candidate
            make_vote(db, pair, choice="a" if new else "b", reviewer=reviewer)
    tick(world.context)
    assert world.versions() == [(1, "retired"), (2, "current")]


def test_an_engine_without_log_probs_is_sampled_all_the_same(world: World) -> None:
    """SGLang's answers hold no prompt_logprobs: the strategy does without margins, and admins see how many."""
    second = add_version(world, 2, "current", seed=1, parent_id=world.version_id)
    with transaction(world.context.factory) as db:
        columns = {"parent_id": world.version_id, "reference_id": world.version_id, "version_id": second}
        db.add(Round(project_id=world.project_id, number=1, trigger="button", state="done", settings={}, **columns))
    prompts(world, 4)
    set_project(world, buffer_size=1, refilling={"strategy": "uncertainty", "pool_factor": 2, "buffer_minutes": 0})
    rng = Random(4)

    def answer(path: str, _body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        if path == "/v1/completions":
            return 200, {}, {"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]}
        return 200, {}, said(f"tea {rng.random()}", f"bread {rng.random()}")

    with closing(_Played(answer)) as engine:
        assert refill(played_by(world, engine), world.project_id) == 1
    (pair,) = [pair for pair, _ in comparisons(world)]
    assert pair.strategy == "uncertainty"
    assert "margin" not in pair.selection
    assert counts(world)["unmeasured"] == 4
