"""Pairs that somebody has still to judge blind, and may therefore not ask the versions about.

Who is handed two answers of different versions could put the same question to the current one: what it says again is
its own.
"""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.errors import ConflictError
from app.language import _

_IN_HAND = text("""
    SELECT EXISTS (
        SELECT 1 FROM prompts p
        JOIN comparisons c ON c.prompt_id = p.id AND c.state = 'open'
        JOIN assignments a ON a.comparison_id = c.id AND a.reviewer_id = :reviewer
            AND a.state IN ('leased', 'expired', 'skipped')
        WHERE p.project_id = :project AND p.digest = :digest
        AND (SELECT count(DISTINCT t.version_id) FROM completions t
             WHERE t.id IN (c.completion_a_id, c.completion_b_id)
             OR t.id IN (SELECT i.completion_id FROM comparison_items i WHERE i.comparison_id = c.id)) > 1)
""")


class PromptInHandError(ConflictError):
    """The conversation is one of a pair that this person has to judge blind."""

    code = "prompt_in_review"
    title = _("You judge answers to this")

    def __init__(self) -> None:
        super().__init__(
            _("You were handed answers to this very conversation, to be compared blind."),
            mend=_("Judge them first, then ask."),
        )


def refuse_in_hand(db: Session, *, project_id: UUID, reviewer_id: UUID, digest: bytes) -> None:
    """
    Args:
        digest: of the conversation, as prompts have it.

    Raises:
        PromptInHandError: the reviewer has a pair of different versions' answers to it, and has not judged it.
    """
    if db.execute(_IN_HAND, {"project": project_id, "reviewer": reviewer_id, "digest": digest}).scalar_one():
        raise PromptInHandError
