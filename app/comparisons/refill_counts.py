"""What the refill met, counted by day and version, for admins to see."""

from collections.abc import Mapping
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Project, RefillCount
from app.language import _

KINDS = {
    "sampled": _("answers sampled"),
    "resampled": _("sampled again at a higher temperature"),
    "identical": _("dropped: the same as another answer"),
    "near_identical": _("dropped: nearly the same as another answer"),
    "empty": _("refused: empty"),
    "unreadable": _("refused: no readable text"),
    "looping": _("refused: going round in circles"),
    "unmeasured": _("implicit reward could not be measured"),
    "no_pair": _("prompts whose answers did not differ"),
    "too_long": _("prompts put aside as unusable"),
    "passed_over": _("prompts sampled and not chosen by the strategy"),
    "formed": _("comparisons made"),
    "seconds": _("seconds of sampling"),
}
"""What is counted, and how it is said."""


def add(db: Session, *, project_id: UUID, version_id: UUID, counts: Mapping[str, int], day: date | None = None) -> None:
    """Count what happened while ``version_id`` was sampled. Rows are taken in one order, so that two never wait for
    each other.

    Raises:
        ValueError: something else than ``KINDS``.
    """
    unknown = sorted(counts.keys() - KINDS.keys())
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is not counted; known are {', '.join(KINDS)}")
    today = day or utcnow().date()
    rows = [
        {"project_id": project_id, "day": today, "version_id": version_id, "what": what, "count": count}
        for what, count in sorted(counts.items())
        if count > 0
    ]
    if rows:
        new = insert(RefillCount)
        counted = {"count": RefillCount.count + new.excluded.count}
        db.execute(new.on_conflict_do_update(index_elements=RefillCount.__table__.primary_key, set_=counted), rows)


def totals(db: Session, project: Project, *, days: int = 7, version_id: UUID | None = None) -> dict[str, int]:
    """Every kind with its count over the last ``days`` (today is one of them), of one version or of all."""
    since = utcnow().date() - timedelta(days=days - 1)
    query = select(RefillCount.what, func.sum(RefillCount.count).label("total")).where(
        RefillCount.project_id == project.id, RefillCount.day >= since
    )
    if version_id is not None:
        query = query.where(RefillCount.version_id == version_id)
    found = {row.what: int(row.total) for row in db.execute(query.group_by(RefillCount.what))}
    return {kind: found.get(kind, 0) for kind in KINDS}
