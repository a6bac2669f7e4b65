"""Reading rounds: one of them, pages of them, what happened to them, and the trainer's figures so far."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Project, Round, RoundEvent
from app.errors import NotFoundError
from app.language import _
from app.rounds.spec import METRICS_FILE
from app.versions.queries import number_of

_MOST_METRIC_LINES = 20_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some rounds, newest first, and the number below which the next ones begin."""

    rounds: Sequence[Round]
    next_cursor: int | None


def get(db: Session, round_id: UUID) -> Round | None:
    """A round by its id, of whichever project."""
    return db.get(Round, round_id)


def by_number(db: Session, project: Project, number: str) -> Round:
    """A project's round by its number as it stands in an address. Raises NotFoundError, also where it is none."""
    wanted = number_of(number)
    query = select(Round).where(Round.project_id == project.id, Round.number == wanted)
    round_ = None if wanted is None else db.scalar(query)
    if round_ is None:
        raise NotFoundError(
            _("%(name)s has no round %(number)s.", name=project.name, number=number),
            mend=_("Look in the list of rounds."),
        )
    return round_


def page(db: Session, project: Project, *, before: int | None = None, limit: int = 50) -> Page:
    """Rounds of the project, newest first; ``before`` is the number of the last one already seen."""
    query = select(Round).where(Round.project_id == project.id)
    if before is not None:
        query = query.where(Round.number < before)
    found = db.scalars(query.order_by(Round.number.desc()).limit(limit + 1)).all()
    return Page(found[:limit], found[limit - 1].number if len(found) > limit else None)


def events(db: Session, round_: Round) -> Sequence[RoundEvent]:
    """What happened to the round, first things first."""
    return db.scalars(
        select(RoundEvent).where(RoundEvent.round_id == round_.id).order_by(RoundEvent.at, RoundEvent.id)
    ).all()


def metrics(jobs_dir: Path, round_: Round) -> list[dict[str, Any]]:
    """The trainer's figures, a dictionary per line of its metrics.jsonl; empty where there are none (yet).

    A last line that is still being written is left out.
    """
    try:
        with (jobs_dir / str(round_.id) / METRICS_FILE).open(encoding="utf-8") as lines:
            texts = [line for _, line in zip(range(_MOST_METRIC_LINES), lines, strict=False) if line.endswith("\n")]
    except FileNotFoundError:
        return []
    return [json.loads(text) for text in texts]
