"""Were the sides fair? What stood on the left, over pairs, reviewers and versions; read from what was shown."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.tables import Project
from app.reviewers.statistics import Share, Side, share, side


@dataclass(frozen=True, slots=True)
class Sides:
    """How sides were handed out, of pairs that were judged."""

    first_left: Side | None
    """How often a pair's first answer stood on the left; it should be one half."""
    balanced: Share | None
    """Of pairs with two votes or more, those whose answers stood on the left equally often (of an odd number, but one).
    A pair can lose its balance where a vote was taken back and somebody else filled its place."""
    versions: list[tuple[int, Side]]
    """Version → how often it stood on the left when it was compared with another version, the newest first."""


_PAIRS = text("""
    SELECT count(*) AS votes, count(*) FILTER (WHERE a.left_side = 'a') AS first_left
    FROM comparisons c JOIN assignments a ON a.comparison_id = c.id AND a.state IN ('voted', 'surplus', 'set_aside')
    WHERE c.project_id = :project AND c.purpose = 'work' AND c.mode = 'pair'
    GROUP BY c.id
""")

_VERSIONS = text("""
    SELECT v.number, count(*) AS votes,
           count(*) FILTER (WHERE (a.left_side = 'a') = (v.id = x.version_id)) AS on_left
    FROM comparisons c
    JOIN assignments a ON a.comparison_id = c.id AND a.state IN ('voted', 'surplus', 'set_aside')
    JOIN completions x ON x.id = c.completion_a_id
    JOIN completions y ON y.id = c.completion_b_id
    JOIN versions v ON v.id IN (x.version_id, y.version_id)
    WHERE c.project_id = :project AND c.purpose = 'work' AND c.mode = 'pair' AND x.version_id <> y.version_id
    GROUP BY v.number
    ORDER BY v.number DESC
""")


def sides(db: Session, project: Project) -> Sides:
    """The report on every pair of work that was judged."""
    pairs = db.execute(_PAIRS, {"project": project.id}).all()
    several = [row for row in pairs if row.votes >= 2]
    even = sum(abs(row.votes - 2 * row.first_left) <= row.votes % 2 for row in several)
    versions = ((row.number, side(row.on_left, row.votes)) for row in db.execute(_VERSIONS, {"project": project.id}))
    return Sides(
        first_left=side(sum(row.first_left for row in pairs), sum(row.votes for row in pairs)),
        balanced=share(even, len(several)),
        versions=[(number, found) for number, found in versions if found is not None],
    )
