"""What reviewers gave day by day and week by week, worked out by hand."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np

from app.reviewers import work
from tests.unit.reviewers.crews import judgements

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)  # a Wednesday


def at(day: int, hour: int = 9, month: int = 11) -> float:
    return datetime(2026, month, day, hour, tzinfo=UTC).timestamp()


def test_days_are_those_of_utc_and_today_is_the_last() -> None:
    given = judgements([(0, number, "a") for number in range(6)])
    when = [at(25, 0), at(24, 23), at(24), at(19), at(27, month=10), at(26, month=10)]
    pace = work.pace(replace(given, at=np.array(sorted(when))), NOW)[0]
    assert pace.days[-1] == 1
    assert pace.days[-2] == 2
    assert pace.days[-7] == 1
    assert pace.days[0] == 1, "27 October is 29 days before"
    assert (pace.week, pace.month, pace.active) == (4, 5, 4)
    assert pace.last == datetime(2026, 11, 25, 0, tzinfo=UTC)


def test_agreement_of_late_is_told_apart_from_that_before() -> None:
    """Reviewer 0 agreed with 1 on pairs 0 and 1 in September, and on neither of pairs 2 and 3 in November."""
    said = [(0, 0, "a"), (1, 0, "a"), (0, 1, "b"), (1, 1, "b"), (0, 2, "a"), (1, 2, "b"), (0, 3, "a"), (1, 3, "tie")]
    when = [at(1, month=9)] * 4 + [at(20)] * 4
    paces = work.pace(replace(judgements(said), at=np.array(when)), NOW)
    for who in (0, 1):
        recent, before = paces[who].recent, paces[who].before
        assert recent is not None
        assert before is not None
        assert (recent.hits, recent.total) == (0, 2)
        assert (before.hits, before.total) == (2, 2)


def test_two_votes_on_a_pair_belong_to_the_week_of_the_later_one() -> None:
    """Pair 0: a (week of 9), b (week of 16), a (this week): 0 of 1, then 1 of 2. Pair 1 this week, a a: 1 of 1. Gold
    pair 2 counts as judged and in nobody's agreement."""
    said = [(0, 0, "a"), (1, 0, "b"), (2, 0, "a"), (0, 1, "a"), (1, 1, "a"), (0, 2, "a"), (1, 2, "a")]
    when = [at(15, 23), at(22, 23), at(23, 0), at(24), at(24), at(25), at(25)]
    found = work.weeks(replace(judgements(said, gold={2: "a"}), at=np.array(when)), NOW)
    assert [week.monday for week in found] == [date(2026, 11, 9), date(2026, 11, 16), date(2026, 11, 23)]
    assert [(week.judged, week.reviewers) for week in found] == [(1, 1), (1, 1), (5, 3)]
    shares = [week.agreement and (week.agreement.hits, week.agreement.total) for week in found]
    assert shares == [None, (0, 1), (2, 3)]


def test_no_more_weeks_are_shown_than_anybody_reads() -> None:
    given = judgements([(0, 0, "a"), (0, 1, "a")])
    found = work.weeks(replace(given, at=np.array([at(1, month=1), at(25)])), NOW)
    assert len(found) == work.WEEKS
    assert [week.judged for week in found] == [0] * 11 + [1]
