"""What a project's votes teach at a moment: read, weighed by skill and age, aggregated as the project asks for it."""

from collections import Counter
from collections.abc import Container, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import Project
from app.preferences import adjudication, aggregating, reading, replaying
from app.preferences.records import Collected, Preference, Settled, Split, Vote
from app.projects.aggregation import Aggregation, aggregation_of
from app.reviewers.weights import skill_weights

__all__ = ["Collected", "Preference", "Split", "collect"]


def collect(
    db: Session,
    project: Project,
    *,
    now: datetime | None = None,
    settings: Aggregation | None = None,
    start: UUID | None = None,
    settle: bool = True,
    held: Container[UUID] | None = None,
) -> Collected:
    """The project's preferences as its votes stand now.

    Args:
        now: the moment from which the age of votes is counted, where age matters.
        settings: how to aggregate; the project's own by default.
        start: the version that will learn from them, where that matters; the current one by default.
        settle: whether decisions speak in the place of the votes they are about.
        held: comparisons that are locked, where votes are about to be frozen: those of others that no round has read
            yet came too late, and may still change.
    """
    now, settings = now or utcnow(), settings or aggregation_of(project.aggregation)
    read = reading.read(db, project)
    spoken = [vote for vote in read.votes if held is None or vote.frozen or vote.comparison_id in held]
    left_out = Counter(read.left_out)
    decisions = adjudication.standing(db, project) if settle else {}
    skills = skill_weights(db, project) if settings.skill else {}
    weigh = _weigher(settings, skills, now)
    votes = _chosen(db, project, spoken, decisions, settings, weigh, now, start, left_out)
    made = aggregating.aggregate(votes, settings, weigh, decisions)
    left_out.update(made.left_out)
    return Collected(
        preferences=made.preferences,
        left_out={reason: count for reason, count in left_out.items() if count},
        contradictions=made.contradictions,
        read=[vote.assignment_id for vote in spoken],
    )


def _chosen(
    db: Session,
    project: Project,
    votes: list[Vote],
    decisions: Mapping[UUID, Settled],
    settings: Aggregation,
    weigh: aggregating.Weigh,
    now: datetime,
    start: UUID | None,
    left_out: Counter[str],
) -> list[Vote]:
    """Those of the project's window, and of what was learned before the share that it sets; held-out votes all.

    A pair is as young as the decision about it, and new as long as nothing was learned from that. A vote that teaches
    nothing (a tie that is dropped) makes no pair new, and counts for no share.
    """

    def said_at(vote: Vote) -> datetime:
        decision = decisions.get(vote.comparison_id)
        return vote.at if decision is None else max(vote.at, decision.at)

    kept = [vote for vote in votes if replaying.in_window(said_at(vote), now, settings.window_days)]
    left_out["window"] += len(votes) - len(kept)
    if settings.replay_percent is None:
        return kept
    start = start or replaying.start_of(db, project)
    made = aggregating.aggregate(kept, settings, weigh, decisions)
    teaching = {vote_id for item in made.preferences for vote_id in item.vote_ids}
    train = [(vote.comparison_id, vote.vote_id) for vote in kept if vote.split == "train" and vote.vote_id in teaching]
    changed = replaying.decided_otherwise(db, start, {about: decision.id for about, decision in decisions.items()})
    known = replaying.learned(db, start) - {vote for about, vote in train if about in changed}
    read = replaying.replayed(train, known, settings.replay_percent, start=start)
    passed_over = {about for about, _ in train} - read
    drawn = [vote for vote in kept if vote.split == "eval" or vote.comparison_id not in passed_over]
    left_out["replay"] += len(kept) - len(drawn)
    return drawn


def age_weight(at: datetime, now: datetime, half_life_days: float | None) -> float:
    """½ for every half-life since; 1 where age does not matter."""
    if half_life_days is None:
        return 1.0
    return float(0.5 ** (max(timedelta(0), now - at) / timedelta(days=half_life_days)))


def _weigher(settings: Aggregation, skills: Mapping[UUID, float], now: datetime) -> aggregating.Weigh:
    def weigh(vote: Vote) -> tuple[float, float]:
        return skills.get(vote.reviewer_id, 1.0), age_weight(vote.at, now, settings.half_life_days)

    return weigh
