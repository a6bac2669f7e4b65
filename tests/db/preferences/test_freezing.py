"""A round's snapshot is taken while people go on voting."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select

from app.comparisons.queries import votes_since_last_round
from app.comparisons.service import lease_next, record_vote
from app.db.session import make_session_factory, transaction
from app.db.tables import Assignment, Project, Round, RoundExample
from app.preferences import service
from app.preferences.collecting import Collected, collect
from tests.factories.rows import make_comparison, make_project, make_user, make_version, make_vote


def between(before: Callable[[], None], after: Callable[[], None]) -> Callable[..., Collected]:
    """The product's own reading of the votes, with something happening right before and right after."""

    def collecting(*args: Any, **options: Any) -> Collected:
        before()
        found = collect(*args, **options)
        after()
        return found

    return collecting


@pytest.mark.parametrize("second", ["b", "skip"])
def test_a_vote_that_comes_while_votes_are_frozen_is_the_next_rounds_and_may_change(
    fresh_engine: Engine, monkeypatch: pytest.MonkeyPatch, second: Any
) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        project = make_project(db)
        version = make_version(db, project, number=1)
        early, late = make_comparison(db, project, version=version), make_comparison(db, project, version=version)
        make_vote(db, early)
        reviewer = make_user(db).id
        lease = lease_next(db, project=project, reviewer_id=reviewer)
        assert lease is not None
        assert lease.comparison_id == late.id
        round_ = Round(project_id=project.id, number=1, kind="dpo", trigger="button", parent_id=version.id)
        db.add(round_)
        db.flush()
        ids = project.id, round_.id

    def say(choice: Any) -> Callable[[], None]:
        def saying() -> None:
            with transaction(factory) as db:
                record_vote(db, reviewer_id=reviewer, assignment_id=lease.assignment_id, choice=choice, source="api")

        return saying

    monkeypatch.setattr(service, "collect", between(say("a"), say(second)))
    with transaction(factory) as db:
        service.freeze(db, db.get_one(Round, ids[1]))
    with transaction(factory) as db:
        (example,) = db.scalars(select(RoundExample)).all()
        assert example.comparison_id == early.id
        frozen = dict(db.execute(select(Assignment.comparison_id, Assignment.frozen_at.is_not(None))).all())
        assert frozen == {early.id: True, late.id: False}
        assert votes_since_last_round(db, db.get_one(Project, ids[0])) == (second == "b")
