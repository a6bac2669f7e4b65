"""How often a version wins against another one, by what people said of pairs of both, weighed back to an even draw.

A strategy may choose pairs that are hard, or unlike others; each keeps the weight that undoes the choice (see
``app.comparisons.weights``). A pair counts once, as the mean of its votes: 1 for a win, ½ for a tie or both bad.
Pairs of one prompt resemble each other, which the interval takes into account (``app.reviewers.clusters``).
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons import weights
from app.comparisons.qualifying import HEARD
from app.db.tables import Project
from app.reviewers.clusters import worth
from app.versions.figures import wilson

# Votes that count, on work; 'a' and 'b' of a ranking are its items 0 and 1, whose positions mean nothing.
_VOTES = text(f"""
    SELECT c.id AS comparison_id, c.prompt_id, c.importance, v.choice, v.ranking, m.number AS of_a, n.number AS of_b
    FROM comparisons c
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    JOIN versions m ON m.id = x.version_id
    JOIN versions n ON n.id = y.version_id
    JOIN assignments a ON a.comparison_id = c.id AND a.state = 'voted' AND {HEARD}
    JOIN LATERAL (SELECT choice, ranking FROM votes WHERE assignment_id = a.id ORDER BY revision DESC LIMIT 1) v
      ON v.choice IN ('a', 'b', 'tie', 'both_bad', 'ranked')
    WHERE c.project_id = :project AND c.purpose = 'work' AND c.state <> 'flagged' AND m.number <> n.number
    ORDER BY c.id, a.id
""")  # noqa: S608 - composed of constants


@dataclass(frozen=True, slots=True)
class WinRate:
    """One version against another."""

    version: int
    opponent: int
    pairs: int
    effective: float
    """Evenly drawn pairs, each of another prompt, that would tell as much."""
    value: float
    """Weighed back."""
    low: float
    high: float
    """Wilson's 95 % interval over the effective pairs."""
    plain: float
    """Without the weights."""


def win_rates(db: Session, project: Project) -> list[WinRate]:
    """Every version against every other one that people compared it with, both ways round, newest first."""
    said: dict[tuple[int, int], dict[UUID, list[float]]] = defaultdict(lambda: defaultdict(list))
    importance: dict[UUID, float] = {}
    prompt_of: dict[UUID, UUID] = {}
    for row in db.execute(_VOTES, {"project": project.id}):
        newer = max(row.of_a, row.of_b)
        won = _share_of_a(row.choice, row.ranking)
        said[newer, min(row.of_a, row.of_b)][row.comparison_id].append(won if row.of_a == newer else 1.0 - won)
        importance[row.comparison_id] = row.importance
        prompt_of[row.comparison_id] = row.prompt_id
    found = []
    for (newer, older), votes in said.items():
        outcomes = [sum(of_pair) / len(of_pair) for of_pair in votes.values()]
        drawn, prompts = [importance[id_] for id_ in votes], [prompt_of[id_] for id_ in votes]
        found.append(_rate(newer, older, outcomes, drawn, prompts))
        found.append(_rate(older, newer, [1.0 - outcome for outcome in outcomes], drawn, prompts))
    return sorted(found, key=lambda rate: (-rate.version, -rate.opponent))


def _rate(version: int, opponent: int, outcomes: list[float], importances: list[float], prompts: list[UUID]) -> WinRate:
    mean = weights.mean(outcomes, importances)
    _, place = np.unique([prompt.int for prompt in prompts], return_inverse=True)
    won = np.bincount(place, weights=np.multiply(outcomes, importances))
    effective = worth(won, np.bincount(place, weights=importances), mean.effective)
    interval = wilson(mean.value, effective)
    plain = sum(outcomes) / len(outcomes)
    return WinRate(version, opponent, len(outcomes), effective, mean.value, interval.low, interval.high, plain)


def _share_of_a(choice: str, ranking: Any) -> float:
    if choice == "ranked":
        place = {item: number for number, tier in enumerate(ranking) for item in tier}
        return 0.5 if place[0] == place[1] else float(place[0] < place[1])
    return {"a": 1.0, "b": 0.0}.get(choice, 0.5)
