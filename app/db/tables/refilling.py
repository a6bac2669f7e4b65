"""What the refill met: counts of what it sampled, refused and formed."""

from datetime import date
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class RefillCount(Base):
    """How often something happened on a day (UTC) while a version was sampled for a project."""

    __tablename__ = "refill_counts"
    __table_args__ = (CheckConstraint("count > 0", name="count_range"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    version_id: Mapped[UUID] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    what: Mapped[str] = mapped_column(primary_key=True)
    """One of ``app.comparisons.refill_counts.KINDS``."""
    count: Mapped[int]
