"""Contradictions that an admin settles: what rounds, exports and figures make of the decision."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.comparisons.labels import record_label
from app.comparisons.records import meant_of
from app.db.base import utcnow
from app.db.tables import (
    Adjudication,
    AuditEntry,
    Comparison,
    Completion,
    Project,
    Round,
    RoundExample,
    User,
    Version,
    Vote,
)
from app.preferences import adjudication, contradictions
from app.preferences.adjudication import AlreadySettledError, DecisionInvalidError, NotContestedError, NotSettledError
from app.preferences.collecting import collect
from app.preferences.contradictions import Filter, side_for
from app.preferences.export import export_rows
from app.preferences.service import freeze, freeze_again, preview, thaw
from app.projects.archived import ProjectArchivedError
from app.reviewers import service as reviewers
from app.reviewers.report import figures
from tests.factories.rows import make_comparison, make_member, make_project, make_user, make_version, make_vote


@pytest.fixture
def project(db: Session) -> Project:
    return make_project(db, slug="tone", held_out_percent=10, aggregation={"method": "majority"})


@pytest.fixture
def version(db: Session, project: Project) -> Version:
    return make_version(db, project, number=1)


@pytest.fixture
def lead(db: Session, project: Project) -> User:
    return make_member(db, project, role="admin")


def contested(db: Session, project: Project, version: Version, said: str = "aab", **options: object) -> Comparison:
    pair = make_comparison(db, project, version=version, slots=len(said), **options)
    for slot, choice in enumerate(said):
        make_vote(db, pair, slot=slot, choice=choice)
    return pair


def settle(db: Session, pair: Comparison, lead: User, outcome: str, **more: object) -> UUID:
    """Decide in the comparison's own sides."""
    project = db.get_one(Project, pair.project_id)
    choice = meant_of(outcome, side_for(pair.id, lead.id))
    said = {"saw_votes": False} | more
    return adjudication.decide(db, project, pair.id, choice=choice, actor=lead.id, **said)


def waiting(db: Session, project: Project, lead: User, **wanted: object) -> list[UUID]:
    return [item.comparison_id for item in contradictions.waiting(db, project, lead.id, Filter(**wanted))]


def test_a_decision_speaks_for_its_pair_with_full_weight(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    """The majority says a, and its votes fade with age; what was decided is b, clearly, and does not."""
    project.aggregation = {"method": "majority", "half_life_days": 1}
    pair = make_comparison(db, project, version=version, slots=3)
    for slot, choice in enumerate("aab"):
        make_vote(db, pair, slot=slot, choice=choice, created_at=utcnow() - timedelta(days=3))
    (before,) = collect(db, project).preferences
    assert (before.outcome, round(before.weight, 2)) == ("a", 0.12)
    made = settle(db, pair, lead, "b", strength=2)
    found = collect(db, project)
    (item,) = found.preferences
    assert (item.outcome, item.margin, item.weight, item.adjudication_id) == ("b", 0.5, 1.0, made)
    assert len(item.vote_ids) == 3
    assert (found.contradictions, found.counts()["settled"], preview(db, project)["settled"]) == (0, 1, 1)
    project.aggregation = {"method": "each"}
    assert [(one.outcome, one.weight) for one in collect(db, project).preferences] == [("b", 1.0)]


def test_leave_as_it_is_takes_the_pair_off_the_list_and_nothing_else(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    pair = contested(db, project, version)
    before = collect(db, project)
    settle(db, pair, lead, "leave")
    assert waiting(db, project, lead) == []
    assert collect(db, project) == before
    assert before.counts()["settled"] == 0


def test_ties_that_are_dropped_are_dropped_settled_too(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    project.aggregation = {"ties": "drop"}
    settle(db, contested(db, project, version), lead, "tie")
    found = collect(db, project)
    assert (found.preferences, found.left_out, found.counts()["settled"]) == ([], {"tie": 3}, 0)


def test_votes_stay_and_held_out_pairs_stay_held_out(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    pair = contested(db, project, version, held_out=True)
    before = [(vote.id, vote.choice) for vote in db.scalars(select(Vote).order_by(Vote.id))]
    settle(db, pair, lead, "b")
    assert [(vote.id, vote.choice) for vote in db.scalars(select(Vote).order_by(Vote.id))] == before
    assert [item.split for item in collect(db, project).preferences] == ["eval"]
    assert list(export_rows(db, project, "trl", split="train")) == []


def test_a_decision_is_recorded_once_audited_and_withdrawn(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    pair, other = contested(db, project, version), make_member(db, project, role="admin")
    made = settle(db, pair, lead, "a", note="B invents a source.")
    assert settle(db, pair, lead, "a", note="B invents a source.") == made
    with pytest.raises(AlreadySettledError):
        settle(db, pair, other, "b")
    with pytest.raises(AlreadySettledError):
        settle(db, pair, lead, "b")
    adjudication.withdraw(db, project, pair.id, actor=other.id)
    with pytest.raises(NotSettledError):
        adjudication.withdraw(db, project, pair.id, actor=lead.id)
    assert waiting(db, project, lead) == [pair.id]
    assert collect(db, project).preferences[0].adjudication_id is None
    settle(db, pair, other, "tie")
    _pair, decisions = adjudication.shown(db, project, pair.id, lead.id)
    assert (decisions[0].choice, decisions[0].who, decisions[0].withdrawn_who) == ("tie", other.name, None)
    assert (decisions[1].note, decisions[1].who, decisions[1].withdrawn_who) == (
        "B invents a source.",
        lead.name,
        other.name,
    )
    acts = db.scalars(select(AuditEntry).where(AuditEntry.action.like("adjudication.%")).order_by(AuditEntry.id)).all()
    assert [(act.action, act.actor_id) for act in acts] == [
        ("adjudication.decide", lead.id),
        ("adjudication.withdraw", other.id),
        ("adjudication.decide", other.id),
    ]
    assert acts[0].subject == f"comparison:{pair.id}"
    assert acts[0].data["outcome"] == "a"


def test_what_cannot_be_settled(db: Session, project: Project, version: Version, lead: User) -> None:
    agreed = contested(db, project, version, "aa")
    with pytest.raises(NotContestedError):
        settle(db, agreed, lead, "a")
    pair = contested(db, project, version)
    for wrong in ({"outcome": "skip"}, {"outcome": "tie", "strength": 2}, {"outcome": "a", "strength": 4}):
        with pytest.raises(DecisionInvalidError):
            settle(db, pair, lead, **wrong)
    assert db.scalar(select(func.count()).select_from(Adjudication)) == 0


def test_an_archived_project_takes_no_decision_and_none_back(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    settled, pair = contested(db, project, version), contested(db, project, version)
    made = settle(db, settled, lead, "a")
    project.archived_at = utcnow()
    db.flush()
    assert settle(db, settled, lead, "a") == made  # sent again, it is answered as the first time
    with pytest.raises(ProjectArchivedError):
        settle(db, pair, lead, "a")
    with pytest.raises(ProjectArchivedError):
        adjudication.withdraw(db, project, settled.id, actor=lead.id)
    assert db.scalars(select(Adjudication.id).where(Adjudication.withdrawn_at.is_(None))).all() == [made]


def test_nobody_settles_a_quarrel_with_somebody_in_quarantine(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    pair, bad = make_comparison(db, project, version=version, slots=2), make_user(db)
    make_vote(db, pair, choice="a")
    make_vote(db, pair, choice="b", slot=1, reviewer=bad)
    assert waiting(db, project, lead) == [pair.id]
    reviewers.quarantine(db, project, bad.id, reason="coins", actor=lead.id)
    assert waiting(db, project, lead) == []
    with pytest.raises(NotContestedError):
        settle(db, pair, lead, "a")


def test_the_list_begins_with_most_disagreement_and_narrows(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    uneven = contested(db, project, version, "aaab")
    even = contested(db, project, version, "abab")
    close = contested(db, project, version, "ab")
    contested(db, project, version, "aa")
    assert waiting(db, project, lead) == [even.id, close.id, uneven.id]
    assert list(contradictions.order(db, project, Filter())) == [even.id, close.id, uneven.id]
    who = db.scalars(select(Vote.reviewer_id).where(Vote.comparison_id == close.id)).first()
    assert waiting(db, project, lead, reviewer_id=who) == [close.id]
    old = make_comparison(db, project, version=version, slots=2)
    for slot, choice in enumerate("ab"):
        make_vote(db, old, slot=slot, choice=choice, created_at=utcnow() - timedelta(days=45))
    assert waiting(db, project, lead, age="older") == [old.id]
    assert waiting(db, project, lead, age="month") == [even.id, close.id, uneven.id]
    clear = make_comparison(db, project, version=version, slots=2)
    make_vote(db, clear, choice="a", criteria={"short": "a", "clear": {"a": 4, "b": 2}})
    make_vote(db, clear, choice="a", slot=1, criteria={"short": "a", "clear": {"a": 1, "b": 2}})
    assert waiting(db, project, lead, criterion="clear") == [clear.id]
    assert waiting(db, project, lead, criterion="short") == []
    settle(db, clear, lead, "a")
    assert waiting(db, project, lead, criterion="clear") == []


def test_a_snapshot_keeps_the_decision_that_it_read(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    pair = contested(db, project, version)
    made = settle(db, pair, lead, "b")
    round_ = Round(project_id=project.id, number=1, kind="dpo", trigger="button", parent_id=version.id)
    db.add(round_)
    db.flush()
    since = utcnow()
    assert freeze(db, round_).counts["settled"] == 1
    (kept,) = db.scalars(select(RoundExample)).all()
    assert (kept.outcome, kept.adjudication_id) == ("b", made)
    (decision,) = adjudication.shown(db, project, pair.id, lead.id)[1]
    assert decision.read
    thaw(db, project.id, since - timedelta(minutes=1))
    assert freeze_again(db, round_) == 0
    thaw(db, project.id, since - timedelta(minutes=1))
    adjudication.withdraw(db, project, pair.id, actor=lead.id)
    assert freeze_again(db, round_) == 3
    db.refresh(kept)
    assert (kept.outcome, kept.adjudication_id) == ("b", made)


def test_a_pair_is_new_until_it_was_learned_as_it_is_decided(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    """With a replay share of 0 a round reads what is new: a decision made since, or withdrawn since."""
    project.aggregation = {"method": "majority", "replay_percent": 0}
    pair = contested(db, project, version)

    def learn(number: int, parent: Version) -> Version:
        round_ = Round(project_id=project.id, number=number, kind="dpo", trigger="button", parent_id=parent.id)
        db.add(round_)
        db.flush()
        freeze(db, round_)
        made = make_version(db, project, number=number + 1, parent_id=parent.id)
        round_.version_id, round_.state = made.id, "done"
        db.flush()
        return made

    second = learn(1, version)
    assert collect(db, project).preferences == []
    settle(db, pair, lead, "b")
    assert [item.outcome for item in collect(db, project).preferences] == ["b"]
    third = learn(2, second)
    assert collect(db, project).preferences == []
    adjudication.withdraw(db, project, pair.id, actor=lead.id)
    assert [item.outcome for item in collect(db, project).preferences] == ["a"]
    settle(db, pair, lead, "tie")
    assert [item.outcome for item in collect(db, project, start=third.id).preferences] == ["tie"]


def test_a_pair_is_as_young_as_the_decision_about_it(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    project.aggregation = {"window_days": 7}
    pair = make_comparison(db, project, version=version, slots=2)
    for slot, choice in enumerate("ab"):
        make_vote(db, pair, slot=slot, choice=choice, created_at=utcnow() - timedelta(days=30))
    assert collect(db, project).preferences == []
    settle(db, pair, lead, "a")
    assert [item.outcome for item in collect(db, project).preferences] == ["a"]


def test_exports_tell_of_decisions(db: Session, project: Project, version: Version, lead: User) -> None:
    pair = contested(db, project, version, texts=("no", "yes"))
    make_vote(db, make_comparison(db, project, version=version))
    settle(db, pair, lead, "b", strength=3, note="Shorter.", saw_votes=True)
    rows = [row for row in export_rows(db, project, "trl") if row["adjudicated"]]
    assert [row["chosen"][0]["content"] for row in rows] == ["yes"]
    votes = [row for row in export_rows(db, project, "votes") if row["comparison_id"] == str(pair.id)]
    assert [row["choice"] for row in votes] == ["a", "a", "b"]
    assert all(row["counts"] for row in votes)
    told = votes[0]["adjudication"]
    assert (told["choice"], told["strength"], told["note"], told["saw_votes"]) == ("b", 3, "Shorter.", True)
    assert told["decided_by"] == str(lead.id)
    others = [row for row in export_rows(db, project, "votes") if row["comparison_id"] != str(pair.id)]
    assert [row["adjudication"] for row in others] == [None]
    battles = [row["winner"] for row in export_rows(db, project, "arena")]
    assert sorted(battles) == ["model_a", "model_a", "model_a", "model_b"]


def test_a_thumb_is_exported_without_a_decision(db: Session, project: Project, version: Version, lead: User) -> None:
    pair = contested(db, project, version)
    settle(db, pair, lead, "a")
    answer = db.get_one(Completion, pair.completion_a_id)
    record_label(db, project=project, completion=answer, user_id=lead.id, desirable=True)
    rows = list(export_rows(db, project, "votes"))
    assert [row["adjudication"] for row in rows if row["purpose"] == "thumb"] == [None]
    assert all(set(row) == set(rows[0]) for row in rows)


def test_the_share_of_votes_that_said_what_was_decided(
    db: Session, project: Project, version: Version, lead: User
) -> None:
    """Mia says a, b and tie where b, b and both bad were decided: 2 of 3. Own votes of whoever decided are left out."""
    mia, tom = make_user(db), make_user(db)
    for said, outcome in (("a", "b"), ("b", "b"), ("tie", "both_bad")):
        pair = make_comparison(db, project, version=version, slots=3)
        make_vote(db, pair, choice=said, reviewer=mia)
        make_vote(db, pair, choice={"a": "b"}.get(said, "a"), slot=1, reviewer=tom)
        make_vote(db, pair, choice="b" if said == "tie" else "a", slot=2, reviewer=lead)
        settle(db, pair, lead, outcome)
    left = contested(db, project, version, "ab")
    settle(db, left, lead, "leave")
    found = figures(db, project)
    assert found is not None
    share = found.each[mia.id].adjudicated
    assert share is not None
    assert (share.hits, share.total) == (2, 3)
    assert 0 < share.low < share.value < share.high < 1
    assert found.each[lead.id].adjudicated is None
    assert found.crew.adjudicated is not None
    assert (found.crew.adjudicated.hits, found.crew.adjudicated.total) == (3, 6)
    adjudication.withdraw(db, project, pair.id, actor=lead.id)
    again = figures(db, project)
    assert again is not None
    assert again.each[mia.id].adjudicated is not None
    assert again.each[mia.id].adjudicated.total == 2
