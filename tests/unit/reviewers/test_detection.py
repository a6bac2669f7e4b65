"""Who is suspected, of what, and who is not."""

import numpy as np
import pytest

from app.reviewers import detection, queries
from app.reviewers.detection import detect
from app.reviewers.skill import estimate
from app.reviewers.weights import skill_weights
from tests.unit.reviewers.crews import honest_crew, judgements

SIDES = ("a", "b")


def kinds(found: list[detection.Suspicion]) -> dict[int, set[str]]:
    return {who: {item.kind for item in items} for who, items in detection.by_reviewer(found).items()}


def test_an_honest_crew_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    rows = honest_crew(30, 1000, rng)
    assert detect(judgements(rows, left=[SIDES[int(x)] for x in rng.integers(0, 2, len(rows))])) == []


def test_coin_flips_are_found_and_told_with_figures() -> None:
    rng = np.random.default_rng(1)
    rows = [
        (who, pair, SIDES[int(rng.integers(2))] if who == 7 else choice)
        for who, pair, choice in honest_crew(30, 1000, rng)
    ]
    found = detect(judgements(rows, left=[SIDES[int(x)] for x in rng.integers(0, 2, len(rows))]))
    assert kinds(found) == {7: {"random"}}
    assert found[0].probability > 0.9
    assert "coin flips" in found[0].told


def test_one_side_always_is_found_whatever_the_answers_are() -> None:
    rng = np.random.default_rng(2)
    rows = honest_crew(30, 1000, rng)
    left = [SIDES[int(x)] for x in rng.integers(0, 2, len(rows))]
    rows = [(who, pair, left[n] if who == 3 else choice) for n, (who, pair, choice) in enumerate(rows)]
    found = kinds(detect(judgements(rows, left=left)))
    assert set(found) == {3}
    assert "one_sided" in found[3]


def test_accounts_that_copy_are_found_with_each_other_and_honest_twins_in_opinion_are_not() -> None:
    rng = np.random.default_rng(3)
    rows = honest_crew(30, 900, rng)
    for pair in range(900, 960):  # 0 and 1 have the same sheet; 2 only agrees as people do
        said = "a" if rng.random() < 0.8 else "b"
        rows += [(0, pair, said), (1, pair, said), (2, pair, "a" if rng.random() < 0.8 else "b")]
    found = detect(judgements(rows, left=[SIDES[int(x)] for x in rng.integers(0, 2, len(rows))]))
    assert kinds(found) == {0: {"copies"}, 1: {"copies"}}
    assert [item.others for item in found] == [(1,), (0,)]


def test_a_ring_that_fills_pairs_by_itself_does_not_vouch_for_itself() -> None:
    """Three accounts with one random sheet: by plain agreement they would be the best of all."""
    rng = np.random.default_rng(4)
    rows = honest_crew(30, 900, rng)
    for pair in [*range(900, 1000), *range(60)]:  # the last sixty others have judged too
        said = SIDES[int(rng.integers(2))]
        rows += [(who, pair, said) for who in (30, 31, 32)]
    made = judgements(rows, left=[SIDES[int(x)] for x in rng.integers(0, 2, len(rows))])
    found = kinds(detect(made))
    assert set(found) == {30, 31, 32}
    assert all("copies" in said for said in found.values())
    apart, together = (detection.evidence(made, voice) for voice in (np.arange(33), np.r_[np.arange(30), [30] * 3]))
    assert (apart[30:] < -10).all(), "taken for three people, each vouches for the others"
    assert (together[30:] > -1).all(), "as one voice, they have only what others say of their pairs"


def test_the_skill_of_a_ring_is_not_what_it_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ring: for three people it is the best of all; as one voice it is worth little, and honest people are
    taken for what they are."""
    rng = np.random.default_rng(4)
    rows = honest_crew(30, 900, rng)
    for pair in [*range(900, 1000), *range(60)]:
        said = SIDES[int(rng.integers(2))]
        rows += [(who, pair, said) for who in (30, 31, 32)]
    made = judgements(rows)
    plain, fair = estimate(made), detection.fair_skill(made)
    assert plain.accuracy[30:].min() > 0.9 > plain.accuracy[:30].max()
    assert fair.accuracy[30:].max() < 0.7
    assert fair.accuracy[:30].mean() == pytest.approx(0.8, abs=0.03)
    monkeypatch.setattr(queries, "judgements", lambda *_: made)
    weights = skill_weights(None, None)  # type: ignore[arg-type]
    assert max(weights[who] for who in (30, 31, 32)) < 0.7, "what training reads"
    assert (fair.weights() * fair.given).sum() / fair.given.sum() == pytest.approx(1.0)


def test_nobody_is_suspected_before_a_few_votes() -> None:
    rows = [(0, pair, "a") for pair in range(detection.FEWEST_VOTES - 1)]
    assert detect(judgements(rows)) == []


def test_repeats_judged_the_other_way_speak_for_coin_flips() -> None:
    rows = [(0, pair, "a") for pair in range(30)] + [(0, pair, "b") for pair in range(15)]
    steady = [(0, pair, "a") for pair in range(30)] + [(0, pair, "a") for pair in range(15)]
    repeats = {30 + n: n for n in range(15)}
    voice = np.arange(1)
    torn = detection.evidence(judgements(rows, repeat_of=repeats), voice)
    same = detection.evidence(judgements(steady, repeat_of=repeats), voice)
    assert torn[0] > 0 > same[0]
