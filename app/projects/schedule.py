"""A project's schedule of rounds: a crontab of five fields, read in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Any

from celery.schedules import ParseException, crontab

from app.language import _, _n

_FIELDS = 5
_LONGEST_DAYS = 8 * 366
"""The longest gap between two 29 Februaries is eight years (1896 to 1904, 2096 to 2104)."""


def parse(text: str) -> crontab:
    """The crontab that ``text`` writes: minute, hour, day of month, month, day of week (0 is Sunday).

    Raises:
        ValueError: not five fields, a value out of range, or a date that never comes.
    """
    parts = text.split()
    if len(parts) != _FIELDS:
        raise ValueError(
            _n(
                "%(text)s has %(n)s field, a crontab has %(fields)s: minute, hour, day of month, month, day of week; "
                "'0 3 * * *' is every night at 3:00 UTC",
                "%(text)s has %(n)s fields, a crontab has %(fields)s: minute, hour, day of month, month, day of week; "
                "'0 3 * * *' is every night at 3:00 UTC",
                len(parts),
                text=repr(text),
                fields=_FIELDS,
            )
        )
    try:
        schedule = crontab.from_string(" ".join(parts))
        _next(schedule, datetime(2000, 1, 1, tzinfo=UTC))
    except (ValueError, ParseException) as error:
        raise ValueError(
            _(
                "%(text)s is not a crontab: %(error)s; '0 3 * * *' is every night at 3:00 UTC",
                text=repr(text),
                error=error,
            )
        ) from error
    return schedule


def next_time(text: str, after: datetime) -> datetime:
    """The first minute later than ``after`` at which the crontab ``text`` is due, in UTC.

    Day of month and day of week must both match, as Celery reads them.

    Raises:
        ValueError: ``text`` is not a crontab.
    """
    return _next(parse(text), after)


def _next(schedule: Any, after: datetime) -> datetime:
    # Any: celery-types does not know the sets that a crontab keeps of its five fields.
    start = after.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    minutes, hours = sorted(schedule.minute), sorted(schedule.hour)
    for days in range(_LONGEST_DAYS + 1):
        day = (start + timedelta(days=days)).replace(hour=0, minute=0)
        if (
            day.month not in schedule.month_of_year
            or day.day not in schedule.day_of_month
            or day.isoweekday() % 7 not in schedule.day_of_week
        ):
            continue
        for hour in hours:
            for minute in minutes:
                due = day.replace(hour=hour, minute=minute)
                if due >= start:
                    return due
    raise ValueError(_("no such date comes within eight years"))
