"""Which votes a round reads: a window, and a share of those its model has learned from."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Assignment, CompletionLabel, Project, Prompt, Round, RoundExample, Version
from app.preferences.collecting import collect
from app.preferences.export import export_rows
from app.preferences.labels import collect_labels
from app.preferences.replaying import replayed
from app.preferences.service import freeze
from tests.factories.rows import make_comparison, make_project, make_user, make_version, make_vote


@pytest.fixture
def project(db: Session) -> Project:
    return make_project(db, slug="tone")


@pytest.fixture
def first(db: Session, project: Project) -> Version:
    return make_version(db, project, number=1)


def learn(db: Session, project: Project, parent: Version, *, number: int, state: str) -> Version:
    """A round that reads what there is, and the version it makes."""
    made = make_version(db, project, number=number, state=state)
    made.parent_id = parent.id
    round_ = Round(project_id=project.id, number=number - 1, kind="dpo", trigger="button", parent_id=parent.id)
    round_.version_id = made.id
    db.add(round_)
    db.flush()
    freeze(db, round_)
    round_.state = "done"
    db.flush()
    return made


def read(db: Session, project: Project) -> list[UUID]:
    return [item.vote_id for item in collect(db, project).preferences]


def test_a_window_leaves_out_what_is_older_and_settles_it(db: Session, project: Project, first: Version) -> None:
    ago = utcnow() - timedelta(days=20)
    old = make_vote(db, make_comparison(db, project, version=first), created_at=ago)
    held_out = make_comparison(db, project, version=first)
    db.get_one(Prompt, held_out.prompt_id).held_out = True
    make_vote(db, held_out, created_at=ago)
    new = make_vote(db, make_comparison(db, project, version=first))
    project.aggregation = {"window_days": 10}
    assert read(db, project) == [new.id]
    assert collect(db, project).left_out == {"window": 2}
    assert len(list(export_rows(db, project, "trl"))) == 3, "an export leaves nothing behind"
    learn(db, project, first, number=2, state="candidate")
    assert db.scalars(select(RoundExample.vote_ids)).all() == [[new.id]]
    db.expire_all()
    assert db.get_one(Assignment, old.assignment_id).frozen_at is not None, "or it would call for rounds for ever"
    project.aggregation = {}
    assert old.id in read(db, project)


def test_a_share_of_what_was_learned_comes_again(db: Session, project: Project, first: Version) -> None:
    """Twelve old pairs and four new ones: at 50 % four of the old come again, at 0 none; held-out votes always."""
    held_out = make_comparison(db, project, version=first)
    db.get_one(Prompt, held_out.prompt_id).held_out = True
    measured = make_vote(db, held_out)
    old = {make_vote(db, make_comparison(db, project, version=first)).id for _ in range(12)}
    first.state = "retired"
    second = learn(db, project, first, number=2, state="current")
    new = {make_vote(db, make_comparison(db, project, version=second)).id for _ in range(4)}
    db.flush()
    project.aggregation = {"replay_percent": 50}
    found = read(db, project)
    assert set(found) >= new | {measured.id}
    assert len(set(found) & old) == 4
    assert collect(db, project).left_out == {"replay": 8}
    third = learn(db, project, second, number=3, state="candidate")
    frozen = db.scalars(select(RoundExample.vote_ids).join(Round).where(Round.version_id == third.id)).all()
    assert sorted(frozen) == sorted([id_] for id_ in found), "what was shown is what the round reads"

    project.aggregation = {"replay_percent": 0}
    assert set(read(db, project)) == new | {measured.id}, "the candidate's votes are new to the current version"
    second.state, third.state = "retired", "retired"
    db.flush()
    first.state = "current"
    db.flush()
    assert set(read(db, project)) == old | new | {measured.id}, "after a roll-back all of it is new again"


def test_votes_that_teach_nothing_make_no_pair_new_and_no_room(db: Session, project: Project, first: Version) -> None:
    """Ties are dropped: ten old pairs with one, ten without, thirty with nothing else. 50 % of two new votes."""
    project.aggregation = {"ties": "drop"}
    old = set()
    for number in range(20):
        pair = make_comparison(db, project, version=first, slots=2)
        old.add(make_vote(db, pair).id)
        if number % 2:
            make_vote(db, pair, slot=1, choice="tie")
    for _ in range(30):
        make_vote(db, make_comparison(db, project, version=first), choice="tie")
    first.state = "retired"
    second = learn(db, project, first, number=2, state="current")
    new = {make_vote(db, make_comparison(db, project, version=second)).id for _ in range(2)}
    db.flush()
    project.aggregation = {"ties": "drop", "replay_percent": 0}
    assert set(read(db, project)) == new
    assert collect(db, project).left_out == {"replay": 30, "tie": 30}, "twenty, and the ties beside ten of them"
    project.aggregation = {"ties": "drop", "replay_percent": 50}
    found = set(read(db, project))
    assert found > new
    assert len(found & old) == 2


def test_thumbs_follow_the_same_rules(db: Session, project: Project, first: Version) -> None:
    person = make_user(db)

    def thumb(days: int) -> UUID:
        completion = make_comparison(db, project, version=first).completion_a_id
        row = CompletionLabel(
            project_id=project.id,
            completion_id=completion,
            user_id=person.id,
            desirable=True,
            revision=1,
            created_at=utcnow() - timedelta(days=days),
        )
        db.add(row)
        db.flush()
        return row.id

    old = thumb(20)
    first.state = "retired"
    learn(db, project, first, number=2, state="current")
    new = thumb(0)
    for settings in ({"window_days": 10}, {"replay_percent": 0}):
        project.aggregation = settings
        assert [label.label_id for label in collect_labels(db, project)] == [new]
    project.aggregation = {}
    assert {label.label_id for label in collect_labels(db, project)} == {old, new}


def test_a_pair_with_a_new_vote_is_read_whole_and_the_draw_changes_with_the_version() -> None:
    pairs = [UUID(int=number) for number in range(40)]
    votes = [(pair, UUID(int=1000 + 2 * number + k)) for number, pair in enumerate(pairs) for k in (0, 1)]
    known = {vote for _, vote in votes} - {votes[1][1]}
    one, other = (replayed(votes, known, 90, start=UUID(int=start)) for start in (7, 8))
    assert pairs[0] in one & other
    assert len(one) == len(other) == 1 + 9  # two votes of a new pair, so eighteen of old ones
    assert one != other
    assert replayed(votes, known, 90, start=UUID(int=7)) == one
