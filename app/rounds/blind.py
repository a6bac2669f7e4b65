"""The gate's blind comparisons: opening and ending them, how many are wanting, and what people said.

They are comparisons like all others, mixed into the queue; nothing shows a reviewer that one is for the gate.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.comparisons.qualifying import HEARD
from app.comparisons.service import withdraw_comparing
from app.db.tables import Project, Version
from app.language import _
from app.projects.refilling import gate_of
from app.reviewers.clusters import worth
from app.rounds.gate import Blind
from app.versions.figures import wilson

# A comparison counts once somebody judged it. What is open counts as on its way while anybody could still be given it
# or holds it: what some have skipped may never be judged by others, so another one is formed.
_STANDING = text(f"""
    SELECT count(*) FILTER (WHERE judged) AS judged, count(*) FILTER (WHERE NOT judged AND live) AS waiting
    FROM (
        SELECT EXISTS (
                 SELECT 1 FROM assignments a WHERE a.comparison_id = c.id AND a.state = 'voted' AND {HEARD}
               ) AS judged,
               c.state = 'open' AND NOT EXISTS (
                 SELECT 1 FROM assignments a WHERE a.comparison_id = c.id AND a.state NOT IN ('leased', 'expired')
               ) AS live
        FROM comparisons c
        WHERE c.project_id = :project AND c.kind = 'gate' AND c.purpose = 'work'
          AND c.state IN ('open', 'complete', 'withdrawn')
          AND EXISTS (SELECT 1 FROM completions x
                      WHERE x.id IN (c.completion_a_id, c.completion_b_id) AND x.version_id = :candidate)
    ) all_of_it
""")  # noqa: S608 - composed of constants

# 'a' and 'b' of a ranking of two are its items 0 and 1.
_VOTES = text(f"""
    SELECT c.id AS comparison_id, c.prompt_id, v.choice, v.ranking, x.version_id = :candidate AS candidate_is_a,
           cardinality(x.ids) AS tokens_a, cardinality(y.ids) AS tokens_b
    FROM comparisons c
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    JOIN assignments a ON a.comparison_id = c.id AND a.state = 'voted' AND {HEARD}
    JOIN LATERAL (SELECT choice, ranking FROM votes WHERE assignment_id = a.id ORDER BY revision DESC LIMIT 1) v
      ON v.choice IN ('a', 'b', 'tie', 'both_bad', 'ranked')
    WHERE c.project_id = :project AND c.kind = 'gate' AND c.purpose = 'work' AND c.state <> 'flagged'
      AND (x.version_id = :candidate) <> (y.version_id = :candidate)
    ORDER BY c.id, a.id
""")  # noqa: S608 - composed of constants


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the comparisons of a candidate are."""

    wanted: int
    judged: int
    waiting: int
    """In the queue or in somebody's hands."""

    @property
    def missing(self) -> int:
        """Comparisons that still have to be made."""
        return max(0, self.wanted - self.judged - self.waiting)


def open_version(db: Session, project_id: UUID) -> Version | None:
    """The candidate that people compare with the current version at present."""
    query = select(Version).where(Version.project_id == project_id, Version.gate_state == "open")
    return db.scalar(query.order_by(Version.number.desc()).limit(1))


def open_gate(db: Session, project: Project, version: Version) -> None:
    """Let people decide on a candidate. One at a time: an earlier one's comparisons end."""
    end_gates(
        db,
        project,
        because=_("version %(number)s took its place in the comparisons", number=version.number),
        but=version.id,
    )
    db.execute(
        update(Version)
        .where(Version.id == version.id, Version.state == "candidate")
        .values(gate_state="open")
        .execution_options(synchronize_session=False)
    )
    db.refresh(version)


def end_gates(db: Session, project: Project, *, because: str, but: UUID | None = None) -> int:
    """Close every open gate of the project without a verdict; how many. Unjudged comparisons leave the queue."""
    query = select(Version).where(Version.project_id == project.id, Version.gate_state == "open")
    ended = 0
    for version in db.scalars(query.order_by(Version.id)).all():
        if version.id == but:
            continue
        db.execute(
            update(Version)
            .where(Version.id == version.id, Version.gate_state == "open")
            .values(gate_state="ended", metrics=_with_reason(version, because))
            .execution_options(synchronize_session=False)
        )
        db.refresh(version)
        withdraw_comparing(db, project=project, version_id=version.id, kinds=("gate",))
        ended += 1
    return ended


def standing(db: Session, project: Project, version: Version) -> Standing:
    """How many comparisons are wanted, judged and on their way."""
    row = db.execute(_STANDING, {"project": project.id, "candidate": version.id}).one()
    return Standing(gate_of(project.gate).comparisons, row.judged, row.waiting)


def missing(db: Session, project: Project) -> int:
    """Comparisons that the refill has to make for an open gate; 0 when none is open."""
    version = open_version(db, project.id)
    return 0 if version is None else standing(db, project, version).missing


def result(db: Session, project: Project, version: Version) -> Blind:
    """What people have said so far."""
    bounds = gate_of(project.gate)
    opponent = db.scalar(select(Version.number).where(Version.id == version.parent_id)) or 0
    said: dict[UUID, list[float]] = defaultdict(list)
    prompt_of: dict[UUID, UUID] = {}
    tokens: dict[UUID, tuple[int, int]] = {}
    for row in db.execute(_VOTES, {"project": project.id, "candidate": version.id}):
        won_by_a = _share_of_a(row.choice, row.ranking)
        said[row.comparison_id].append(won_by_a if row.candidate_is_a else 1.0 - won_by_a)
        prompt_of[row.comparison_id] = row.prompt_id
        lengths = (row.tokens_a, row.tokens_b)
        tokens[row.comparison_id] = lengths if row.candidate_is_a else lengths[::-1]
    outcomes = [sum(votes) / len(votes) for votes in said.values()]
    share = interval(outcomes, [prompt_of[id_] for id_ in said])
    theirs = sum(length for _, length in tokens.values())
    return Blind(
        opponent=opponent,
        wanted=bounds.comparisons,
        judged=len(outcomes),
        prompts=len(set(prompt_of.values())),
        wins=sum(outcomes),
        win_rate=share[0] if share else None,
        low=share[1] if share else None,
        high=share[2] if share else None,
        length_ratio=sum(length for length, _ in tokens.values()) / theirs if theirs else None,
        min_win_rate=bounds.min_win_rate,
        max_length_ratio=bounds.max_length_ratio,
    )


def interval(outcomes: Sequence[float], prompts: Sequence[UUID]) -> tuple[float, float, float] | None:
    """Win rate with the ends of its 95 % interval; None without outcomes.

    Wilson's interval over as many comparisons as they are worth, prompts being the clusters.
    """
    if not outcomes:
        return None
    _, place = np.unique([prompt.int for prompt in prompts], return_inverse=True)
    rate = sum(outcomes) / len(outcomes)
    share = wilson(rate, worth(np.bincount(place, weights=outcomes), np.bincount(place)))
    return rate, share.low, share.high


def _share_of_a(choice: str, ranking: list[list[int]] | None) -> float:
    if choice == "ranked":
        places = {item: place for place, tier in enumerate(ranking or []) for item in tier}
        a, b = places.get(0, 0), places.get(1, 0)
        return 0.5 if a == b else float(a < b)
    return {"a": 1.0, "b": 0.0}.get(choice, 0.5)


def _with_reason(version: Version, because: str) -> dict[str, object]:
    seen = dict(version.metrics.get("gate") or {})
    return version.metrics | {"gate": seen | {"reasons": [*seen.get("reasons", []), because]}}
