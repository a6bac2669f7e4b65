"""Keeps the catalogues in step with the texts: ``python -m app.language.messages``, or ``make messages``.

Extracts every text of templates, Python and scripts and merges it into each language's .po file. New texts come in
without a translation and those that are gone go; nothing is guessed, so nothing is fuzzy.
"""

import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po, write_po

from app.language.catalogues import path
from app.language.negotiation import DEFAULT, LANGUAGES

ROOT = Path(__file__).resolve().parent.parent.parent
KEYWORDS = {"_": None, "_n": (1, 2)}


def extracted() -> Catalog:
    """Every text that is there now, with the files it is in."""
    with (ROOT / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file, filename="babel.cfg")  # type: ignore[no-untyped-call]
    found = Catalog(charset="utf-8")
    for file_name, _line, message, comments, context in extract_from_dir(ROOT, methods, options, keywords=KEYWORDS):
        found.add(message, None, [(file_name, 0)], auto_comments=comments, context=context)
    return found


def catalogue(tag: str) -> Catalog:
    """The language's catalogue as it is in its file."""
    with path(tag).open("rb") as file:
        return read_po(file, locale=tag)


def update(tag: str, texts: Catalog) -> Catalog:
    """The language's catalogue with the texts of now, written to its file."""
    merged = catalogue(tag)
    merged.update(texts, no_fuzzy_matching=True, update_creation_date=False)
    merged.obsolete.clear()
    with path(tag).open("wb") as file:
        write_po(file, merged, width=120, sort_output=True, include_lineno=False, ignore_obsolete=True)
    return merged


def missing(texts: Catalog) -> list[str]:
    """The texts without a whole translation."""
    found = []
    for text in texts:
        said = text.string if isinstance(text.string, tuple | list) else (text.string,)
        if text.id and (text.fuzzy or not all(said) or (text.pluralizable and len(said) != texts.num_plurals)):
            found.append(str(text.id))
    return found


def main() -> int:
    """Update them all and say what is to be translated."""
    texts = extracted()
    todo = 0
    for tag in LANGUAGES:
        if tag != DEFAULT:
            left = missing(update(tag, texts))
            todo += len(left)
            sys.stdout.write(f"{tag}: {len(texts)} texts, {len(left)} to translate in {path(tag).relative_to(ROOT)}\n")
    return 1 if todo else 0


if __name__ == "__main__":
    sys.exit(main())
