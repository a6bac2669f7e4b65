"""What an admin should see of reviewers: figures, suspicions, and where everybody stands. Computed once per state."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.projects.queue import queue_of
from app.reviewers import detection, queries, statistics
from app.reviewers.detection import Suspicion
from app.reviewers.records import Judgements
from app.reviewers.statistics import CrewFigures, ReviewerFigures

_KEPT = 16
"""Projects whose figures are remembered; they are computed anew when a vote has changed them."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the votes show, by reviewer."""

    crew: CrewFigures
    each: dict[UUID, ReviewerFigures]
    suspicions: dict[UUID, list[Suspicion]]
    names: tuple[UUID, ...]
    """Reviewers by their number in suspicions."""
    judgements: Judgements
    """What all of it was computed from."""


@dataclass(frozen=True, slots=True)
class Line:
    """One reviewer in the report."""

    person: queries.Person
    figures: ReviewerFigures | None
    """Null for whoever has not judged yet."""
    suspicions: list[tuple[Suspicion, list[UUID]]]
    """Each with the other accounts it is about."""


@dataclass(frozen=True, slots=True)
class Report:
    """A project's reviewers."""

    crew: CrewFigures | None
    lines: list[Line]


_remembered: OrderedDict[UUID, tuple[tuple[Any, ...], Figures]] = OrderedDict()
_lock = threading.Lock()


def report(db: Session, project: Project) -> Report:
    """Everybody in the project with their figures; those under suspicion first, then by judgements."""
    found = figures(db, project)
    lines = [_line(project, person, found) for person in queries.people(db, project)]
    lines.sort(key=lambda line: (not line.suspicions, -(line.figures.judged if line.figures else 0)))
    return Report(found.crew if found else None, lines)


def line(db: Session, project: Project, person: queries.Person) -> Line:
    """One reviewer's line of the report."""
    return _line(project, person, figures(db, project))


def _line(project: Project, person: queries.Person, found: Figures | None) -> Line:
    """Suspicions are left out where the project does not look for bad faith."""
    if found is None:
        return Line(person, None, [])
    wanted = queue_of(project.queue).bad_faith != "off"
    suspicions = found.suspicions.get(person.id, []) if wanted else []
    named = [(item, [found.names[number] for number in item.others]) for item in suspicions]
    return Line(person, found.each.get(person.id), named)


def figures(db: Session, project: Project) -> Figures | None:
    """What the votes show; null as long as there are none."""
    state = queries.fingerprint(db, project)
    with _lock:
        known = _remembered.get(project.id)
        if known is not None and known[0] == state:
            return known[1]
    judgements = queries.judgements(db, project)
    if not len(judgements):
        return None
    found = _computed(judgements)
    with _lock:
        _remembered[project.id] = (state, found)
        _remembered.move_to_end(project.id)
        while len(_remembered) > _KEPT:
            _remembered.popitem(last=False)
    return found


def _computed(judgements: Judgements) -> Figures:
    rng = np.random.default_rng(0)  # the same votes always show the same intervals
    skill = detection.fair_skill(judgements)
    names = tuple(judgements.reviewers)
    suspicions = detection.by_reviewer(detection.detect(judgements))
    return Figures(
        crew=statistics.crew(judgements, rng),
        each=dict(zip(names, statistics.each(judgements, rng, skill), strict=True)),
        suspicions={names[number]: found for number, found in suspicions.items()},
        names=names,
        judgements=judgements,
    )
