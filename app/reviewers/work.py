"""How far each reviewer is, and how agreement moves: what whoever leads them looks at every day.

Days are those of UTC, as the daily goal's are; a week begins on Monday.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Project
from app.projects.queue import queue_of
from app.reviewers import queries, report, statistics
from app.reviewers.records import Bools, Ints, Judgements
from app.reviewers.statistics import Share

DAYS = 30
"""Days that are shown of each reviewer, today included."""
WEEKS = 12
"""Weeks of which agreement is shown, the current one included."""
_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Pace:
    """What one reviewer gave of late."""

    days: tuple[int, ...]
    """(DAYS,) Pairs judged on each, checks included, by their latest word; today's is the last one."""
    last: datetime
    """When they last judged one."""
    recent: Share | None
    """Agreement of the votes of these days with others', over every two votes on a pair of work."""
    before: Share | None
    """The same of all earlier ones."""

    @property
    def month(self) -> int:
        """Judged in all of these days."""
        return sum(self.days)

    @property
    def week(self) -> int:
        """Judged in the last seven of them."""
        return sum(self.days[-7:])

    @property
    def active(self) -> int:
        """On how many of these days they judged anything."""
        return sum(count > 0 for count in self.days)


@dataclass(frozen=True, slots=True)
class Line:
    """One reviewer."""

    person: queries.Person
    goal: int | None
    """Pairs a day: their own, or the project's."""
    pace: Pace | None
    """Null for whoever has not judged yet."""


@dataclass(frozen=True, slots=True)
class Week:
    """A week of the whole project."""

    monday: date
    judged: int
    reviewers: int
    agreement: Share | None
    """Of every two votes on a pair of work, in the week of the later one."""


@dataclass(frozen=True, slots=True)
class Work:
    """A project's reviewers and its last weeks."""

    lines: list[Line]
    """Those that judged most in the last seven days first, then by address."""
    weeks: list[Week]
    """From the first in which anything was judged, at most ``WEEKS``; the current one last."""

    @property
    def most(self) -> int:
        """On one day, by one reviewer: how high a bar can be."""
        return max((count for line in self.lines if line.pace for count in line.pace.days), default=0)


def work(db: Session, project: Project, *, now: datetime | None = None) -> Work:
    """How far everybody is; of the latest ``queries.MOST_JUDGEMENTS`` judgements."""
    now = now or utcnow()
    found = report.figures(db, project)
    paces = pace(found.judgements, now) if found else {}
    goal = queue_of(project.queue).daily_goal
    lines = [
        Line(person, person.daily_goal or goal, paces.get(person.id)) for person in queries.people(db, project)
    ]  # fmt: skip
    lines.sort(key=lambda line: -(line.pace.week if line.pace else 0))
    return Work(lines, weeks(found.judgements, now) if found else [])


def pace(judgements: Judgements, now: datetime) -> dict[UUID, Pace]:
    """By reviewer."""
    table = statistics.ratings(judgements, judgements.work)
    ago = _days_ago(judgements, now)
    late = ago < DAYS
    paces = {}
    for number, who in enumerate(judgements.reviewers):
        mine = judgements.reviewer == number
        counts = np.bincount(ago[mine & late], minlength=DAYS)[::-1]
        paces[who] = Pace(
            days=tuple(int(count) for count in counts),
            last=datetime.fromtimestamp(float(judgements.at[mine].max()), UTC),
            recent=_agreement(judgements, mine & late, table),
            before=_agreement(judgements, mine & ~late, table),
        )
    return paces


def weeks(judgements: Judgements, now: datetime) -> list[Week]:
    """Of everybody together, the current week last."""
    today = now.astimezone(UTC).date()
    current = today - timedelta(days=today.weekday())
    ago = (_days_ago(judgements, now) + 6 - today.weekday()) // 7
    twos, same = _with_earlier(judgements)
    found = []
    for back in range(min(WEEKS - 1, int(ago.max())), -1, -1):
        there = ago == back
        found.append(
            Week(
                monday=current - timedelta(weeks=back),
                judged=int(there.sum()),
                reviewers=len(np.unique(judgements.reviewer[there])),
                agreement=statistics.over(*(_by_pair(judgements, there, votes) for votes in (same, twos))),
            )
        )
    return found


def _days_ago(judgements: Judgements, now: datetime) -> Ints:
    """(V,) 0: given today. What the clock of another machine puts into the future is of today."""
    today = int(now.timestamp() // _DAY_SECONDS)
    return np.maximum(0, today - (judgements.at // _DAY_SECONDS).astype(np.int64))


def _agreement(judgements: Judgements, mine: Bools, table: Ints) -> Share | None:
    return statistics.alike(*statistics.with_others(judgements, mine & judgements.work, table))


def _by_pair(judgements: Judgements, there: Bools, of_votes: Ints) -> Ints:
    """(P,) Sums of what is (V,) of votes, over those that are ``there``."""
    return np.bincount(judgements.pair[there], weights=of_votes[there]).astype(np.int64)


def _with_earlier(judgements: Judgements) -> tuple[Ints, Ints]:
    """(V,) each: earlier votes on the same pair of work, and those of them that say the same."""
    said = statistics.categories(judgements.choice)
    seen = np.zeros((int(judgements.pair.max(initial=-1)) + 1, statistics.CATEGORIES), dtype=np.int64)
    twos, same = np.zeros(len(judgements), dtype=np.int64), np.zeros(len(judgements), dtype=np.int64)
    for row in np.flatnonzero(judgements.work):  # in the order in which they were given
        pair, category = judgements.pair[row], said[row]
        twos[row], same[row] = seen[pair].sum(), seen[pair, category]
        seen[pair, category] += 1
    return twos, same
