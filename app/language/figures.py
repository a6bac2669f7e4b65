"""Numbers, shares and moments as the language of now writes them (CLDR, by Babel). Digits are Latin in every language:
they are also the keys on the buttons, and the figures in exports."""

import re
from datetime import UTC, date, datetime
from typing import Any, Self

from babel import Locale
from babel.dates import format_skeleton
from babel.numbers import format_decimal, get_decimal_symbol, get_group_symbol

from app.language.current import current
from app.language.negotiation import DEFAULT, LANGUAGES
from app.language.texts import Text, _, _n

_MINUS = "\N{MINUS SIGN}"


class Figure(Text):
    """A number that stands in a text: '1,234' for programs, and as their language writes it for people."""

    __slots__ = ("_digits", "_number")

    _number: float
    _digits: int | None

    def __new__(cls, number: float, digits: int | None = None) -> Self:
        """The number with its thousands apart, or with so many ``digits`` after its point."""
        made = super().__new__(cls, f"{number:,}" if digits is None else f"{number:.{digits}f}")
        made._number, made._digits = number, digits
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For copies and pickles."""
        return (self._number, self._digits)

    def into(self, tag: str) -> str:
        """The number as that language writes it."""
        if tag == DEFAULT:
            return _with_minus(str(self))
        if self._digits is None:
            return _with_minus(str(format_decimal(self._number, locale=tag)))
        return _decimal(self._number, self._digits, tag)


class Percent(Text):
    """A share that stands in a text: '52%' for programs, and as their language writes it for people."""

    __slots__ = ("_share",)

    _share: float

    def __new__(cls, share: float) -> Self:
        """0.52 as '52%'."""
        made = super().__new__(cls, f"{share:.0%}")
        made._share = share
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For copies and pickles."""
        return (self._share,)

    def into(self, tag: str) -> str:
        """The share as that language writes it."""
        return _with_sign(_decimal(self._share * 100, 0, tag), tag)


def thousands(number: float) -> str:
    """1234 as '1,234'."""
    return Figure(number).into(current())


def decimal(number: float, digits: int) -> str:
    """A number with so many digits after its point."""
    return _decimal(number, digits, current())


def signed(number: float, digits: int) -> str:
    """A difference, its sign before it even where it is above 0."""
    text = decimal(number, digits)
    return text if number < 0 else _before(f"+{text}", current())


def plain(number: float) -> str:
    """A setting as people would type it: 30, or 2.5."""
    return written(f"{number:g}")


def written(number: str) -> str:
    """A number that is written already, '1,234' or '0.5', with the marks of the language of now."""
    if current() == DEFAULT:
        return _with_minus(number)
    marks = {".": get_decimal_symbol(current()), ",": get_group_symbol(current())}
    return _with_minus("".join(marks.get(char, char) for char in number))


def in_field(number: str) -> str:
    """The same for a field to be typed in: with the minus sign that keyboards have."""
    return written(number).replace(_MINUS, "-")


def typed(text: str) -> str | None:
    """A number as people of the language of now type it, '0,9', with a point: '0.9'. Other texts stay as they are.

    None where the point may part thousands there: '1.000' is a thousand to some, and one to others.
    """
    decimal_mark, group_mark = get_decimal_symbol(current()), get_group_symbol(current())
    number = text.strip().replace(_MINUS, "-")
    if group_mark == "." and re.fullmatch(r"[-+]?[1-9]\d{0,2}(\.\d{3})+", number):
        return None
    pointed = number.replace(decimal_mark or ".", ".")
    return pointed if is_number(pointed) else text


def is_number(text: str) -> bool:
    """Whether this is a number written with a point, if any."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def significant(number: float, digits: int = 2) -> str:
    """A small probability and the like: as many significant digits."""
    return written(f"{number:.{digits}g}")


def percent(share: float, digits: int = 0) -> str:
    """0.52 as '52%'."""
    return written_percent(decimal(share * 100, digits))


def written_percent(number: str) -> str:
    """The sign at a number that is written already."""
    return _with_sign(number, current())


def moment(when: datetime) -> str:
    """A moment in UTC: '3 Feb 2026, 14:05 UTC'."""
    utc, tag = when.astimezone(UTC), current()
    if tag == DEFAULT:
        return f"{utc:%-d %b %Y, %H:%M} UTC"
    return f"{format_skeleton('yMMMd', utc, locale=tag)}, {utc:%H:%M} UTC"


def day(when: date) -> str:
    """A day: '3 Feb 2026'."""
    if current() == DEFAULT:
        return f"{when:%-d %b %Y}"
    return str(format_skeleton("yMMMd", when, locale=current()))


def distance(seconds: float) -> Text:
    """How long ago: '3 hours ago'; 'in 3 hours' where ``seconds`` is negative."""
    ahead, seconds = seconds < 0, abs(seconds)
    if seconds < 45:
        return _("just now")
    if seconds < 3600 * 0.97:
        n = max(1, round(seconds / 60))
        return _n("in %(n)s minute", "in %(n)s minutes", n) if ahead else _n("%(n)s minute ago", "%(n)s minutes ago", n)
    if seconds < 86_400 * 0.97:
        n = max(1, round(seconds / 3600))
        return _n("in %(n)s hour", "in %(n)s hours", n) if ahead else _n("%(n)s hour ago", "%(n)s hours ago", n)
    if seconds < 30 * 86_400 * 0.97:
        n = max(1, round(seconds / 86_400))
        return _n("in %(n)s day", "in %(n)s days", n) if ahead else _n("%(n)s day ago", "%(n)s days ago", n)
    n = max(1, round(seconds / (30.44 * 86_400)))
    if n < 12:
        return _n("in %(n)s month", "in %(n)s months", n) if ahead else _n("%(n)s month ago", "%(n)s months ago", n)
    n = round(n / 12)
    return _n("in %(n)s year", "in %(n)s years", n) if ahead else _n("%(n)s year ago", "%(n)s years ago", n)


def _decimal(number: float, digits: int, tag: str) -> str:
    if tag == DEFAULT:
        return _with_minus(f"{number:.{digits}f}")
    text = _with_minus(str(format_decimal(number, format=f"0.{'0' * digits}" if digits else "0", locale=tag)))
    return _before(text, tag) if text.startswith(_MINUS) else text


def _with_sign(number: str, tag: str) -> str:
    """With the percent sign where that language has it: '52%', and after a space that does not break '52 %'."""
    return f"{number}{Locale.parse(tag).percent_formats[None].suffix[0]}"


def _with_minus(number: str) -> str:
    """With the sign that is as wide as a plus, in every language."""
    return number.replace("-", _MINUS)


def _before(signed_number: str, tag: str) -> str:
    """With its sign before it also where text runs from right to left, as CLDR writes numbers below 0 there."""
    return signed_number if LANGUAGES[tag].direction == "ltr" else f"\N{LEFT-TO-RIGHT MARK}{signed_number}"
