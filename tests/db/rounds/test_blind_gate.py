"""The gate's blind comparisons: when they open, what decides, and what ends them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from app.comparisons.service import Made, create_comparison, create_ranking
from app.db.base import utcnow
from app.db.session import make_session_factory, transaction
from app.db.tables import Assignment, AuditEntry, Comparison, OutboxMessage, Project, Round, RoundEvent, User, Version
from app.reviewers.service import quarantine
from app.rounds import blind, service
from app.rounds.deciding import decide, open_gates
from app.settings import Settings
from app.versions.manifest import VersionInfo
from tests.factories.loops import claim, make_loop, move_on, write_version
from tests.factories.rows import make_completion, make_prompt, make_user, make_version, make_vote
from tests.factories.threads import at_once
from tests.fixtures.logged import Logged

GOOD = {"eval": {"end": {"accuracy": 0.6, "kl": 3.0, "pairs": 10}}, "displacement_alarm": None}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


def trained(db: Session, settings: Settings, *, wanted: int = 4, gate: dict[str, object] | None = None) -> Version:
    """A candidate of a project with the rule 'gate' whose figures are good."""
    project, _ = make_loop(
        db, promotion="gate", gate={"comparisons": wanted} | (gate or {}), versions_dir=settings.versions_dir
    )
    return another(db, settings, project)


def another(db: Session, settings: Settings, project: Project) -> Version:
    round_ = service.request_round(db, project, trigger="button")
    claimed = claim(db, settings)
    move_on(db, round_.id, claimed.token, "preparing", "training", "publishing")
    digest = write_version(settings.versions_dir / str(claimed.token), content=str(claimed.token))
    info = VersionInfo(kind="full", context_length=64, metrics=GOOD)
    return service.register_version(db, round_, claimed.token, version_id=claimed.token, digest=digest, info=info)


def compare(
    db: Session,
    candidate: Version,
    outcomes: Sequence[str | None],
    *,
    ranked: bool = False,
    tokens: tuple[int, int] = (4, 4),
    reviewer: User | None = None,
) -> list[Comparison]:
    """Gate comparisons with a vote each: 'new', 'old', 'tie', 'both_bad', or None for one that waits."""
    project, old = db.get_one(Project, candidate.project_id), db.get_one(Version, candidate.parent_id)
    reviewer, rng = reviewer or make_user(db), Random(3)
    made = []
    for outcome in outcomes:
        prompt = make_prompt(db, project)
        sides = [
            make_completion(db, prompt, version=version, ids=[*range(3, 2 + count), 2])
            for version, count in zip((candidate, old), tokens, strict=True)
        ]
        rng.shuffle(sides)
        if ranked:
            pair = create_ranking(db, project=project, completions=sides, slots=1, rng=rng, made=Made("gate"))
        else:
            a, b = sides
            pair = create_comparison(
                db, project=project, completion_a=a, completion_b=b, slots=1, rng=rng, made=Made("gate")
            )
        made.append(pair)
        if outcome is None:
            continue
        first = next(side for side in sides if side.id == pair.completion_a_id)
        won_by_a = (outcome == "new") == (first.version_id == candidate.id)
        if ranked:
            tiers = [[0, 1]] if outcome == "tie" else [[0], [1]] if won_by_a else [[1], [0]]
            make_vote(db, pair, choice="ranked", ranking=tiers, reviewer=reviewer)
        else:
            choice = outcome if outcome in ("tie", "both_bad") else "a" if won_by_a else "b"
            make_vote(db, pair, choice=choice, reviewer=reviewer)
    return made


def states(db: Session, project_id: UUID) -> list[tuple[int, str, str | None]]:
    db.expire_all()
    query = select(Version.number, Version.state, Version.gate_state).where(Version.project_id == project_id)
    return [(row.number, row.state, row.gate_state) for row in db.execute(query.order_by(Version.number))]


def test_good_figures_open_the_comparisons_and_wake_the_refill(db: Session, settings: Settings) -> None:
    version = trained(db, settings)
    assert (version.state, version.gate_state) == ("candidate", "open")
    assert db.scalars(select(OutboxMessage.args).where(OutboxMessage.task == "hone.refill")).all() == [
        [str(version.project_id)]
    ]
    note = db.scalars(select(RoundEvent.data["text"].astext).where(RoundEvent.kind == "note")).one()
    assert note == "the figures of version 2 pass the gate; 4 blind comparisons with version 1 decide"
    assert blind.missing(db, db.get_one(Project, version.project_id)) == 4


def test_nothing_is_decided_before_all_are_judged(db: Session, settings: Settings) -> None:
    version = trained(db, settings)
    compare(db, version, ["new", "new", "new", None])
    assert not decide(db, version.id, settings=settings)
    project = db.get_one(Project, version.project_id)
    standing = blind.standing(db, project, version)
    assert (standing.judged, standing.waiting, standing.missing) == (3, 1, 0)
    assert open_gates(db) == [(version.id, version.project_id)]


def test_what_people_prefer_is_promoted(db: Session, settings: Settings) -> None:
    version = trained(db, settings, wanted=12)
    compare(db, version, ["new"] * 9 + ["tie", "both_bad", "old"], tokens=(6, 4))
    assert decide(db, version.id, settings=settings)
    assert states(db, version.project_id) == [(1, "retired", None), (2, "current", "passed")]
    seen = version.metrics["gate"]["blind"]
    assert (seen["judged"], seen["wins"], seen["win_rate"], seen["opponent"]) == (12, 10.0, pytest.approx(10 / 12), 1)
    assert seen["low"] == pytest.approx(0.552, abs=1e-3), "Wilson, 10 of 12"
    assert seen["high"] == pytest.approx(0.953, abs=1e-3)
    assert seen["length_ratio"] == 1.5
    note = db.scalars(select(RoundEvent.data["text"].astext).where(RoundEvent.data["text"].astext.like("%was prom%")))
    assert "it won 83% of 12 (95% interval 55% to 95%)" in note.one()
    assert not decide(db, version.id, settings=settings), "once"


def test_what_people_do_not_prefer_stays_a_candidate_with_the_reason(db: Session, settings: Settings) -> None:
    version = trained(db, settings, wanted=10)
    (*_, waiting) = compare(db, version, ["new"] * 4 + ["old"] * 6 + [None])
    assert decide(db, version.id, settings=settings)
    assert states(db, version.project_id) == [(1, "current", None), (2, "candidate", "failed")]
    (reason,) = version.metrics["gate"]["reasons"]
    assert reason.startswith("it won 40% of 10 blind comparisons with version 1 (95% interval 17% to 69%)")
    assert db.get_one(Comparison, waiting.id).state == "withdrawn"
    entry = db.scalars(select(AuditEntry).where(AuditEntry.action == "version.fail_gate")).one()
    assert entry.data["reasons"] == [reason]


def test_the_bound_is_the_projects(db: Session, settings: Settings) -> None:
    version = trained(db, settings, wanted=10, gate={"min_win_rate": 0.15})
    compare(db, version, ["new"] * 4 + ["old"] * 6)
    decide(db, version.id, settings=settings)
    assert states(db, version.project_id)[1] == (2, "current", "passed")


def test_answers_that_win_by_length_are_held_back(db: Session, settings: Settings) -> None:
    version = trained(db, settings, wanted=8)
    compare(db, version, ["new"] * 8, tokens=(30, 10))
    decide(db, version.id, settings=settings)
    assert states(db, version.project_id)[1] == (2, "candidate", "failed")
    assert "3.00 times as long" in version.metrics["gate"]["reasons"][0]


def test_rankings_of_two_count_like_pairs(db: Session, settings: Settings) -> None:
    version = trained(db, settings, wanted=8)
    compare(db, version, ["new"] * 6 + ["tie", "old"], ranked=True)
    decide(db, version.id, settings=settings)
    assert version.metrics["gate"]["blind"]["wins"] == 6.5


def test_many_comparisons_of_one_prompt_are_worth_less(db: Session) -> None:
    outcomes = [1.0] * 10 + [0.0] * 10
    apart = blind.interval(outcomes, [UUID(int=n) for n in range(20)])
    alike = blind.interval(outcomes, [UUID(int=n // 5) for n in range(20)])
    one = blind.interval(outcomes, [UUID(int=0)] * 20)
    assert apart is not None
    assert alike is not None
    assert one is not None
    assert apart[0] == alike[0] == one[0] == 0.5
    assert apart[2] - apart[1] < alike[2] - alike[1] < one[2] - one[1]
    assert blind.interval([], []) is None


def test_votes_of_somebody_in_quarantine_decide_nothing_even_if_a_round_has_read_them(
    db: Session, settings: Settings
) -> None:
    version = trained(db, settings, wanted=12)
    project = db.get_one(Project, version.project_id)
    bad = make_user(db)
    compare(db, version, ["old"] * 4, reviewer=bad)
    compare(db, version, ["new"] * 8)
    db.execute(update(Assignment).values(frozen_at=utcnow()))
    quarantine(db, project, bad.id, reason="coin flips", actor=None)
    assert not decide(db, version.id, settings=settings)
    standing = blind.standing(db, project, version)
    assert (standing.judged, standing.missing) == (8, 4)
    compare(db, version, ["new"] * 4)
    assert decide(db, version.id, settings=settings)
    seen = version.metrics["gate"]["blind"]
    assert (seen["judged"], seen["wins"]) == (12, 12.0)


def test_a_skipped_comparison_is_replaced(db: Session, settings: Settings) -> None:
    version = trained(db, settings, wanted=2)
    compare(db, version, ["new", None])
    from app.comparisons.service import lease_next, record_vote

    project, reviewer = db.get_one(Project, version.project_id), make_user(db)
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    assert leased is not None
    assert blind.missing(db, project) == 0, "somebody holds it"
    record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="skip", source="api")
    assert blind.missing(db, project) == 1


def test_a_promotion_by_hand_ends_the_comparisons(db: Session, settings: Settings) -> None:
    version = trained(db, settings)
    (pair,) = compare(db, version, [None])
    service.promote(db, version, actor=None, settings=settings)
    assert states(db, version.project_id) == [(1, "retired", None), (2, "current", "ended")]
    assert db.get_one(Comparison, pair.id).state == "withdrawn"
    assert open_gates(db) == []


def test_a_rejection_ends_them_too(db: Session, settings: Settings) -> None:
    version = trained(db, settings)
    (pair,) = compare(db, version, [None])
    service.reject(db, version, actor=None)
    assert states(db, version.project_id)[1] == (2, "rejected", "ended")
    db.expire_all()
    assert db.get_one(Comparison, pair.id).state == "withdrawn"


def test_another_current_version_ends_them_and_says_so(db: Session, settings: Settings) -> None:
    version = trained(db, settings)
    third = make_version(db, db.get_one(Project, version.project_id), number=3, state="candidate")
    third.digest = write_version(settings.versions_dir / str(third.id), content="third")
    service.promote(db, third, actor=None, settings=settings)
    assert states(db, version.project_id)[1] == (2, "candidate", "ended")
    assert version.metrics["gate"]["reasons"] == ["version 3 became the current one before they were through"]


def test_a_later_candidate_takes_the_place_of_an_earlier_one(db: Session, settings: Settings) -> None:
    first = trained(db, settings)
    (pair,) = compare(db, first, [None])
    project = db.get_one(Project, first.project_id)
    project.min_round_votes = 2
    from tests.factories.loops import cast_votes

    cast_votes(db, project, db.get_one(Version, first.parent_id), 2)
    second = another(db, settings, project)
    assert states(db, project.id)[1:] == [(2, "candidate", "ended"), (3, "candidate", "open")]
    assert db.get_one(Comparison, pair.id).state == "withdrawn"
    assert open_gates(db) == [(second.id, second.project_id)]


def test_a_project_that_left_the_gate_is_not_promoted_by_it(db: Session, settings: Settings) -> None:
    version = trained(db, settings, wanted=2)
    compare(db, version, ["new", "new"])
    db.get_one(Project, version.project_id).promotion = "manual"
    db.flush()
    assert not decide(db, version.id, settings=settings)
    assert states(db, version.project_id)[1] == (2, "candidate", "ended")


def test_damaged_files_are_not_promoted_however_many_prefer_them(
    db: Session, settings: Settings, logged: Logged
) -> None:
    version = trained(db, settings, wanted=8)
    compare(db, version, ["new"] * 8)
    (settings.versions_dir / str(version.id) / "model.safetensors").write_text("rotten")
    assert decide(db, version.id, settings=settings)
    assert states(db, version.project_id)[0] == (1, "current", None)
    made_by = select(Round.id).where(Round.version_id == version.id).scalar_subquery()
    texts = db.scalars(select(RoundEvent.data["text"].astext).where(RoundEvent.round_id == made_by)).all()
    assert any("its files are damaged" in (text or "") for text in texts)
    slug = db.get_one(Project, version.project_id).slug
    assert logged.about("is damaged") == [{"project": str(version.project_id), "slug": slug}]


def test_of_many_that_ask_one_decides(fresh_engine: Engine, settings: Settings) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        version = trained(db, settings, wanted=8)
        compare(db, version, ["new"] * 8)

    def ask() -> bool:
        with transaction(factory) as db:
            return decide(db, version.id, settings=settings)

    assert sorted(at_once(*[partial(ask)] * 4)) == [False, False, False, True]
    with transaction(factory) as db:
        assert states(db, version.project_id) == [(1, "retired", None), (2, "current", "passed")]
