"""What observations are worth that come in clusters: votes on one pair of answers, or pairs of one prompt.

Those of a cluster resemble each other, so that an interval or a test which takes each for one of its own promises too
much. Such figures are taken over as many independent observations as have the same variance (a design effect; L. Kish,
Survey Sampling, 1965), with the variance between clusters estimated by linearisation of a ratio, and fewer where there
are few clusters to estimate it from (E. L. Korn, B. I. Graubard, Survey Methodology 24, 1998).
"""

import numpy as np
from scipy.stats import t as student

from app.reviewers.records import Floats, Ints

_UPPER = 0.975
"""Of the 95 % intervals that are made of it."""


def worth(hits: Floats | Ints, sizes: Floats | Ints, observations: float | None = None) -> float:
    """How many independent observations of a share tell as much as these clusters of them do.

    Args:
        hits: (C,) sum of the outcomes (0 … 1 each) of each cluster, weighted if observations are.
        sizes: (C,) observations of each cluster, or the sum of their weights; above 0.
        observations: what all of them would be worth if none resembled another; the sum of ``sizes`` by default.

    Returns:
        At least 1 and at most ``observations``; the number of clusters where all outcomes are the same, for then
        nothing can be estimated; 1 of one cluster.

    Raises:
        ValueError: there are none, or a size is not above 0.
    """
    if not len(sizes) or float(np.min(sizes)) <= 0:
        raise ValueError(f"{len(sizes)} clusters of sizes {sizes}: at least one is needed, each with observations")
    total, clusters = float(np.sum(sizes)), len(sizes)
    count = total if observations is None else observations
    rate = float(np.sum(hits)) / total
    plain = rate * (1.0 - rate)
    if clusters == 1 or plain <= 0:
        return min(float(clusters), count)
    residuals = np.asarray(hits, dtype=np.float64) - rate * np.asarray(sizes, dtype=np.float64)
    clustered = float((residuals**2).sum()) / total**2 * clusters / (clusters - 1)
    independent = count * plain / (clustered * max(count - 1.0, 1e-9)) if clustered > 0 else count
    freedom = float(student.ppf(_UPPER, max(count - 1.0, 1.0)) / student.ppf(_UPPER, clusters - 1)) ** 2
    return max(1.0, min(count, independent * min(1.0, freedom)))
