"""What the lines of a job are about: its project by id and by slug, as on those of the web server's requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import select

from app import logs
from app.db.session import SessionFactory, transaction
from app.db.tables import Project


@contextmanager
def project_lines(factory: SessionFactory, project_id: UUID, **fields: str) -> Iterator[None]:
    """Lines of the block are about this project, and about ``fields`` as well."""
    with transaction(factory) as db:
        slug = db.scalar(select(Project.slug).where(Project.id == project_id))
    named = {"slug": slug} if slug is not None else {}
    with logs.about(project=str(project_id), **named, **fields):
        yield
