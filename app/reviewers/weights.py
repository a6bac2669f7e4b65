"""What each reviewer's vote is worth, for training that weighs by skill."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.db.tables import Project
from app.reviewers import queries
from app.reviewers.detection import fair_skill


def skill_weights(db: Session, project: Project) -> dict[UUID, float]:
    """Reviewer → weight, 1 for the average vote and 0 for one that is worth no more than a coin. Others weigh 1.

    Everybody's votes count for this, those of reviewers in quarantine too: they are what shows them. Copies of one
    another count as one.
    """
    judgements = queries.judgements(db, project)
    weights = fair_skill(judgements).weights()
    return {reviewer: round(float(weight), 6) for reviewer, weight in zip(judgements.reviewers, weights, strict=True)}
