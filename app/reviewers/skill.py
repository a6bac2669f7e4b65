"""How often each reviewer is right, without knowing what is: the one-coin model of Dawid and Skene.

Every pair has a better side, and reviewer r says it with probability p_r. Both are estimated in turns (EM): the truth
of a pair from its votes, weighed by the log-odds of those who gave them, and p_r from how often r meets that truth
(A. P. Dawid, A. M. Skene, Applied Statistics 28, 1979; the variant with one accuracy for each reviewer). Gold pairs
enter with their known truth. A prior of a few imagined votes keeps newcomers near the average.
"""

from dataclasses import dataclass

import numpy as np

from app.reviewers.records import UNKNOWN, B, Floats, Judgements

PRIOR_RIGHT, PRIOR_WRONG = 7.0, 3.0
"""Imagined right and wrong votes of everybody: what is known of a reviewer who has not voted yet."""
LOWEST, HIGHEST = 0.02, 0.98
_STEPS, _TOLERANCE = 60, 1e-5


@dataclass(frozen=True, slots=True)
class Skill:
    """The model's estimate."""

    accuracy: Floats
    """(R,) Probability that a reviewer's preference is the better side."""
    votes: Floats
    """(R,) Preferences it rests on; those that count in part only in part."""
    given: Floats
    """(R,) Preferences that were given."""
    truth: Floats
    """(P,) Probability that side b of the pair is the better one; ½ where nobody preferred a side."""

    def weights(self) -> Floats:
        """(R,) What a reviewer's vote is worth: its log-odds of being right, the average of votes at 1.

        The log-odds are what a majority weighted by them needs to be the likeliest truth (Nitzan and Paroush, 1982).
        A reviewer no better than a coin weighs 0, as does one who is worse.
        """
        worth = np.maximum(log_odds(self.accuracy), 0.0)
        votes = float(self.given.sum())
        average = float((worth * self.given).sum()) / votes if votes else 0.0
        return worth / average if average > 0 else np.ones_like(worth)


def log_odds(probability: Floats) -> Floats:
    """log p/(1 − p), nats, with p kept off 0 and 1."""
    kept = np.clip(probability, LOWEST, HIGHEST)
    return np.asarray(np.log(kept / (1.0 - kept)), dtype=np.float64)


def estimate(judgements: Judgements, *, worth: Floats | None = None) -> Skill:
    """Accuracies of all reviewers from first judgements of work and from gold; ties and both bad say nothing of a side.

    Args:
        worth: (V,) share with which each judgement counts; 1 by default.
    """
    use = judgements.decided & (judgements.repeat_of == UNKNOWN) & ~judgements.attention
    if worth is not None:
        use &= worth > 0
    reviewer, pair, said_b = judgements.reviewer[use], judgements.pair[use], (judgements.choice[use] == B)
    share = np.ones(len(reviewer)) if worth is None else worth[use]
    known = judgements.gold[use]
    reviewers, pairs = len(judgements.reviewers), int(judgements.pair.max(initial=-1)) + 1
    sign = np.where(said_b, 1.0, -1.0)
    votes = np.bincount(reviewer, weights=share, minlength=reviewers).astype(np.float64)
    accuracy = np.full(reviewers, PRIOR_RIGHT / (PRIOR_RIGHT + PRIOR_WRONG))
    truth = np.full(pairs, 0.5)
    for _ in range(_STEPS):
        evidence = np.bincount(pair, weights=share * sign * log_odds(accuracy)[reviewer], minlength=pairs)
        truth = 1.0 / (1.0 + np.exp(-evidence))
        truth[pair[known != UNKNOWN]] = known[known != UNKNOWN] == B
        right = np.where(said_b, truth[pair], 1.0 - truth[pair])
        found = np.bincount(reviewer, weights=share * right, minlength=reviewers)
        updated = (found + PRIOR_RIGHT) / (votes + PRIOR_RIGHT + PRIOR_WRONG)
        moved = float(np.abs(updated - accuracy).max(initial=0.0))
        accuracy = updated
        if moved < _TOLERANCE:
            break
    given = np.bincount(reviewer, minlength=reviewers).astype(np.float64)
    return Skill(accuracy=accuracy, votes=votes, given=given, truth=truth)
