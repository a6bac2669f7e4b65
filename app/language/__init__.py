"""What people read, in their language: texts, figures and dates. Knows no noun and no web.

In Python a text for people is written ``_("Round %(number)s is done.", number=3)``. It is an English ``str`` wherever
it goes (the API, logs, the database), and on a page it is said in the reader's language. In templates and scripts
``_`` and ``_n`` do the same at once. Every placeholder is ``%(name)s``; there is no other ``%`` to mind.
"""

from app.language.current import current, direction, speaking, use
from app.language.negotiation import LANGUAGES, accepted
from app.language.texts import Text, _, _n, listed, say, sentence

__all__ = [
    "LANGUAGES",
    "Text",
    "_",
    "_n",
    "accepted",
    "current",
    "direction",
    "listed",
    "say",
    "sentence",
    "speaking",
    "use",
]
