"""What strategies look back on: pairs that people have judged, and prompts that were compared."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from worker.refill.answers import Answer

MOST_JUDGED = 1500
MOST_PROMPTS = 400


@dataclass(frozen=True, slots=True)
class Judged:
    """Two answers and what people said of them."""

    a: Answer
    b: Answer
    outcome: float
    """1 where 'a' was preferred, 0 where 'b' was, 0.5 for a tie; the mean over its votes."""


# Votes that count, latest revision of each, on prompts that may train: what is held out must not steer either.
_JUDGED = text("""
    SELECT c.id, avg(CASE v.choice WHEN 'a' THEN 1.0 WHEN 'b' THEN 0.0 ELSE 0.5 END) AS outcome, max(v.id::text) AS last
    FROM assignments a
    JOIN comparisons c ON c.id = a.comparison_id AND c.mode = 'pair' AND c.purpose = 'work'
      AND c.state <> 'flagged'
    JOIN prompts p ON p.id = c.prompt_id AND NOT p.held_out
    JOIN LATERAL (SELECT v.id, v.choice FROM votes v WHERE v.assignment_id = a.id ORDER BY v.revision DESC LIMIT 1) v
      ON v.choice IN ('a', 'b', 'tie', 'both_bad')
    WHERE a.project_id = :project AND a.state = 'voted'
    GROUP BY c.id ORDER BY last DESC LIMIT :most
""")

_ANSWERS = text("""
    SELECT c.id, x.version_id AS version_a, x.text AS text_a, x."end" AS end_a, x.scores AS scores_a,
           y.version_id AS version_b, y.text AS text_b, y."end" AS end_b, y.scores AS scores_b
    FROM comparisons c JOIN completions x ON x.id = c.completion_a_id JOIN completions y ON y.id = c.completion_b_id
    WHERE c.id = ANY(:ids)
""")

_COMPARED = text("""
    SELECT p.messages -> -1 ->> 'content' AS said
    FROM comparisons c JOIN prompts p ON p.id = c.prompt_id
    WHERE c.project_id = :project AND c.purpose = 'work' AND c.state IN ('open', 'complete')
    ORDER BY c.created_at DESC LIMIT :most
""")


def judged(db: Session, project_id: UUID) -> list[Judged]:
    """The pairs judged last, newest first; rankings are left out."""
    rows = db.execute(_JUDGED, {"project": project_id, "most": MOST_JUDGED}).all()
    answers = {row.id: row for row in db.execute(_ANSWERS, {"ids": [row.id for row in rows]})}
    made = []
    for row in rows:
        found = answers[row.id]
        a = Answer(found.version_a, found.text_a, [], [], found.end_a, {}, found.scores_a)
        b = Answer(found.version_b, found.text_b, [], [], found.end_b, {}, found.scores_b)
        made.append(Judged(a, b, float(row.outcome)))
    return made


def compared(db: Session, project_id: UUID) -> list[str]:
    """The last turns of the prompts compared last, newest first."""
    return [row.said or "" for row in db.execute(_COMPARED, {"project": project_id, "most": MOST_PROMPTS})]
