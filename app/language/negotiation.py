"""The languages there are, and which of them a browser asks for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """A language that every page can be read in."""

    tag: str
    """Of BCP 47, and the name of its catalogue."""
    name: str
    """In that language itself."""
    direction: str
    """'ltr' or 'rtl'."""


LANGUAGES = {
    language.tag: language
    for language in (
        Language("en", "English", "ltr"),
        Language("de", "Deutsch", "ltr"),
        Language("ar", "العربية", "rtl"),
    )
}
DEFAULT = "en"
"""What the texts are written in, and what is said to whoever asks for none of the others."""
_MOST_READ = 400
"""Characters of the header: nobody needs more, and it is not ours."""


def accepted(header: str | None) -> str:
    """The best of ``LANGUAGES`` for an Accept-Language header (RFC 9110 §12.5.4); 'de-AT' asks for 'de' too."""
    best, best_quality = DEFAULT, 0.0
    for part in (header or "")[:_MOST_READ].split(","):
        wanted, _, parameter = part.partition(";")
        tag = wanted.strip().lower().partition("-")[0]
        quality = _quality(parameter)
        if tag in LANGUAGES and quality > best_quality:
            best, best_quality = tag, quality
    return best


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0
