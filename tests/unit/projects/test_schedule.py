"""Crontabs of rounds: which are refused, and when the next one is."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.projects.schedule import next_time, parse


def at(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("crontab", "after", "due"),
    [
        ("0 3 * * *", at(2026, 11, 23, 2, 59, 59), at(2026, 11, 23, 3, 0)),
        ("0 3 * * *", at(2026, 11, 23, 3, 0), at(2026, 11, 24, 3, 0)),
        ("*/15 * * * *", at(2026, 11, 23, 10, 16), at(2026, 11, 23, 10, 30)),
        ("30 22 * * 1-5", at(2026, 11, 27, 23, 0), at(2026, 11, 30, 22, 30)),  # Friday night to Monday
        ("0 0 * * 0", at(2026, 11, 23), at(2026, 11, 29)),  # a Monday to the Sunday
        ("0 0 1 1 *", at(2026, 1, 1), at(2027, 1, 1)),
        ("0 0 29 2 *", at(2096, 3, 1), at(2104, 2, 29)),  # 2100 is no leap year
        ("59 23 31 * *", at(2026, 11, 23), at(2026, 12, 31, 23, 59)),
    ],
)
def test_the_next_time(crontab: str, after: datetime, due: datetime) -> None:
    assert next_time(crontab, after) == due


def test_times_are_utc_wherever_the_question_comes_from() -> None:
    berlin = timezone(timedelta(hours=1))
    assert next_time("0 3 * * *", datetime(2026, 11, 23, 3, 30, tzinfo=berlin)) == at(2026, 11, 23, 3, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 fields"),
        ("daily", "1 field,"),
        ("0 3 * *", "4 fields"),
        ("61 * * * *", "61 > 59"),
        ("0 25 * * *", "25 > 23"),
        ("0 0 31 2 *", "never occurs"),
        ("0 0 * * 7", "7 > 6"),
        ("0 0 * * someday", "not a crontab"),
        ("*/0 * * * *", "not a crontab"),
    ],
)
def test_what_is_no_crontab_is_refused_with_an_example(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="every night at 3:00 UTC") as caught:
        parse(text)
    assert says in str(caught.value)


def test_spaces_do_not_matter() -> None:
    assert next_time("  0   3 *  * * ", at(2026, 1, 1)) == at(2026, 1, 1, 3)
