"""What the tests of the pages lay, and look at afterwards."""

from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Project
from app.projects import forms
from tests.factories import rows
from tests.fixtures.portal import Portal


def stored(portal: Portal) -> Project:
    with portal.db() as db:
        return db.scalars(select(Project).where(Project.slug == "tone")).one()


def ready(portal: Portal, votes: int = 0) -> None:
    """A current version, a pair in the queue, and votes."""
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        version = rows.make_version(db, project, number=1)
        rows.make_comparison(db, project, version=version)
        for _ in range(votes):
            rows.make_vote(db, rows.make_comparison(db, project, version=version))


def filled(portal: Portal, **changes: str) -> dict[str, str]:
    return forms.blank().values | {"name": "New", "base_model": "owner/model"} | changes


def ready_votes(portal: Portal, votes: int) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        for _ in range(votes):
            rows.make_vote(db, rows.make_comparison(db, project))
