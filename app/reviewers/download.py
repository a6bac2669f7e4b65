"""The figures of reviewers as a download, for page and API."""

from sqlalchemy.orm import Session
from starlette.responses import StreamingResponse

from app.db.tables import Project
from app.reviewers.report import report
from app.reviewers.table import lines


def table(db: Session, project: Project) -> StreamingResponse:
    """Everybody's figures as CSV."""
    return StreamingResponse(
        lines(report(db, project)),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{project.slug}-reviewers.csv"'},
    )
