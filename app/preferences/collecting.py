"""From votes to preferences: the latest revision of every vote that counts, and why the others do not."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.tables import Project

Split = Literal["train", "eval"]

MARGINS: dict[int | None, float] = {None: 0.0, 1: 0.0, 2: 0.5, 3: 1.0}
"""Margin δ of a preference (nats, in the scale of β·Δ) by the strength its reviewer gave: slightly, clearly, much."""

REASONS = ("skip", "flag", "undone", "surplus", "feedback", "flagged", "identical", "other_prompt", "empty")
"""Why a vote is left out: what it says of itself (the first three), that its slot was lost, that it is an API
client's and the project ignores those or its person is in quarantine, that somebody flagged the pair, that both answers
read the same, that they answer differently tokenised prompts, that one has no tokens."""


@dataclass(frozen=True, slots=True)
class Preference:
    """One counted vote, as training reads it."""

    prompt_id: UUID
    comparison_id: UUID
    completion_a_id: UUID
    completion_b_id: UUID
    split: Split
    """'eval' on held-out prompts, else 'train'."""
    outcome: str
    """'a', 'b', 'tie' or 'both_bad', of the comparison's own sides."""
    margin: float
    weight: float
    vote_id: UUID
    assignment_id: UUID
    reviewer_id: UUID
    voted_at: datetime


@dataclass(frozen=True, slots=True)
class Collected:
    """What can be learned from a project's votes at a moment."""

    preferences: list[Preference]
    """Ordered by prompt, comparison and vote: the same votes always come in the same order."""
    left_out: dict[str, int]
    """Votes by the reason for which they are left out."""
    contradictions: int
    """Comparisons on which one reviewer preferred 'a' and another 'b'."""

    def counts(self) -> dict[str, Any]:
        """What a round shows of its snapshot."""
        outcomes = Counter((item.split, item.outcome) for item in self.preferences)
        return {
            "train": sum(n for (split, _), n in outcomes.items() if split == "train"),
            "eval": sum(n for (split, _), n in outcomes.items() if split == "eval"),
            "ties": sum(n for (_, outcome), n in outcomes.items() if outcome == "tie"),
            "both_bad": sum(n for (_, outcome), n in outcomes.items() if outcome == "both_bad"),
            "prompts": len({item.prompt_id for item in self.preferences}),
            "reviewers": len({item.reviewer_id for item in self.preferences}),
            "contradictions": self.contradictions,
            "left_out": dict(sorted(self.left_out.items())),
        }


_VOTES = text("""
    WITH latest AS (
        SELECT DISTINCT ON (v.assignment_id)
               v.id, v.assignment_id, v.comparison_id, v.reviewer_id, v.choice, v.strength, v.surplus, v.source,
               v.created_at
        FROM votes v
        WHERE v.project_id = :project
        ORDER BY v.assignment_id, v.revision DESC
    )
    SELECT c.prompt_id, l.comparison_id, c.completion_a_id, c.completion_b_id, p.held_out, l.choice, l.strength,
           l.id AS vote_id, l.assignment_id, l.reviewer_id, l.created_at,
           CASE
               WHEN l.choice IN ('skip', 'flag', 'undone') THEN l.choice
               WHEN l.surplus OR a.state NOT IN ('voted', 'feedback') THEN 'surplus'
               WHEN l.source = 'feedback' AND (:feedback = 'ignore' OR EXISTS (
                   SELECT 1 FROM standings s WHERE s.project_id = :project AND s.reviewer_id = l.reviewer_id
                   AND s.paused_at IS NOT NULL)) THEN 'feedback'
               WHEN c.state = 'flagged' OR EXISTS (
                   SELECT 1 FROM latest f WHERE f.comparison_id = l.comparison_id AND f.choice = 'flag'
                   AND (c.flags_cleared_at IS NULL OR f.created_at > c.flags_cleared_at)) THEN 'flagged'
               WHEN x.text = y.text OR x.ids = y.ids THEN 'identical'
               WHEN x.prompt_ids <> y.prompt_ids THEN 'other_prompt'
               WHEN cardinality(x.ids) = 0 OR cardinality(y.ids) = 0 OR cardinality(x.prompt_ids) = 0 THEN 'empty'
           END AS left_out
    FROM latest l
    JOIN assignments a ON a.id = l.assignment_id
    JOIN comparisons c ON c.id = l.comparison_id
    JOIN prompts p ON p.id = c.prompt_id
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    ORDER BY c.prompt_id, l.comparison_id, l.id
""")


def collect(db: Session, project: Project) -> Collected:
    """The project's preferences as its votes stand now."""
    preferences: list[Preference] = []
    left_out: Counter[str] = Counter()
    sides: dict[UUID, set[str]] = {}
    for row in db.execute(_VOTES, {"project": project.id, "feedback": project.feedback}):
        if row.left_out is not None:
            left_out[row.left_out] += 1
            continue
        sides.setdefault(row.comparison_id, set()).add(row.choice)
        preferences.append(
            Preference(
                prompt_id=row.prompt_id,
                comparison_id=row.comparison_id,
                completion_a_id=row.completion_a_id,
                completion_b_id=row.completion_b_id,
                split="eval" if row.held_out else "train",
                outcome=row.choice,
                margin=MARGINS[row.strength],
                weight=1.0,
                vote_id=row.vote_id,
                assignment_id=row.assignment_id,
                reviewer_id=row.reviewer_id,
                voted_at=row.created_at,
            )
        )
    contradictions = sum({"a", "b"} <= choices for choices in sides.values())
    return Collected(preferences, dict(left_out), contradictions)
