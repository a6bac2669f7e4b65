"""What a prompt is: a conversation in one canonical form, so that equal ones are one row."""

import hashlib
import itertools
import json
import unicodedata
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from app.errors import InvalidError
from app.language import _
from app.language.figures import Figure
from app.lines import with_newlines

Conversation = list[dict[str, str]]
ROLES = ("system", "user", "assistant")
_SYSTEM = ("system", "developer")
"""Names of the system's role that clients use."""
MAX_MESSAGES = 200


class ConversationError(InvalidError):
    """Not a conversation that a model could answer; the message says what is wrong and what to do."""

    code = "invalid_prompt"
    title = _("This is not a prompt")


def normalise(messages: Any, *, max_chars: int) -> Conversation:
    """``messages`` checked and in canonical form: Unicode NFC, newlines as \\n, no space at the end of a turn.

    At most one system turn, and it comes first; user and assistant then take turns; a user's turn is last.

    Args:
        messages: [{"role": "system" | "user" | "assistant", "content": text}, …], from anywhere; as in the chat,
            "developer" is "system", and a content may be parts, [{"type": "text", "text": text}, …].
        max_chars: longest conversation, characters over all turns.

    Raises:
        ConversationError: anything else.
    """
    if not isinstance(messages, list) or not messages:
        raise ConversationError(_("a prompt needs at least one message: a user's turn"))
    if len(messages) > MAX_MESSAGES:
        raise ConversationError(
            _(
                "%(messages)s messages, at most %(max_messages)s are allowed; shorten the conversation",
                messages=len(messages),
                max_messages=MAX_MESSAGES,
            )
        )
    turns = [_turn(number, message) for number, message in enumerate(messages, start=1)]
    _check_order([turn["role"] for turn in turns])
    chars = sum(len(turn["content"]) for turn in turns)
    if chars > max_chars:
        raise ConversationError(
            _(
                "%(chars)s characters, at most %(max_chars)s are allowed; shorten it",
                chars=Figure(chars),
                max_chars=Figure(max_chars),
            )
        )
    return turns


def from_text(text: Any, *, max_chars: int) -> Conversation:
    """A conversation of one user's turn. Raises ConversationError, as ``normalise`` does."""
    if not isinstance(text, str):
        raise ConversationError(_("the prompt must be a text, not %(text)s", text=kind(text)))
    return normalise([{"role": "user", "content": text}], max_chars=max_chars)


def digest(conversation: Sequence[dict[str, str]]) -> bytes:
    """SHA-256 of a normalised conversation, 32 bytes."""
    turns = [[turn["role"], turn["content"]] for turn in conversation]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False, separators=(",", ":")).encode()).digest()


def is_held_out(project_id: UUID, prompt_digest: bytes, percent: int) -> bool:
    """Whether a prompt evaluates instead of training: by its digest, so that it is the same wherever it comes from."""
    return int.from_bytes(hashlib.sha256(project_id.bytes + prompt_digest).digest()[:8], "big") % 100 < percent


def _turn(number: int, message: Any) -> dict[str, str]:
    where = _("message %(number)s", number=number)
    if not isinstance(message, dict):
        raise ConversationError(
            _("%(where)s must be an object with role and content, not %(message)s", where=where, message=kind(message))
        )
    unknown = sorted(str(key) for key in message if key not in ("role", "content"))
    if unknown:
        raise ConversationError(
            _(
                "%(where)s has %(unknown)s, which Hone does not read; leave only role and content",
                where=where,
                unknown=repr(unknown[0]),
            )
        )
    role, content = message.get("role"), message.get("content")
    role = ROLES[0] if role in _SYSTEM else role
    if role not in ROLES:
        raise ConversationError(
            _("%(where)s has the role %(role)s; use system, user or assistant", where=where, role=repr(role))
        )
    content = _joined(content) if isinstance(content, list) else content
    if not isinstance(content, str):
        raise ConversationError(
            _(
                "%(where)s must have a text as content, not %(content)s",
                where=where,
                content=kind(message.get("content")),
            )
        )
    if "\0" in content:
        raise ConversationError(_("%(where)s holds a null character, which cannot be stored; remove it", where=where))
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise ConversationError(
            _("%(where)s holds half a character (a lone surrogate); write it as UTF-8 again", where=where)
        ) from error
    text = unicodedata.normalize("NFC", with_newlines(content)).rstrip()
    if not text.strip():
        raise ConversationError(_("%(where)s is empty; write something or remove it", where=where))
    return {"role": role, "content": text}


def _check_order(roles: list[str]) -> None:
    if "system" in roles[1:]:
        at = roles.index("system", 1) + 1
        raise ConversationError(
            _("message %(at)s is a system message; one is allowed, and only as the first message", at=at)
        )
    if roles[-1] != "user":
        raise ConversationError(
            _(
                "the last message is the %(roles)s's; a prompt must end with a user's turn, which "
                "the model then answers",
                roles=roles[-1],
            )
        )
    spoken = roles[1:] if roles[0] == "system" else roles
    if spoken[0] != "user":
        raise ConversationError(_("after the system message, if any, the user speaks first"))
    for number, (before, role) in enumerate(itertools.pairwise(spoken), start=len(roles) - len(spoken) + 2):
        if before == role:
            raise ConversationError(
                _(
                    "message %(number)s is again the %(role)s's; user and assistant take turns, so join "
                    "the two into one",
                    number=number,
                    role=role,
                )
            )


def _joined(parts: list[Any]) -> str | None:
    """The text of a content in parts; None if one of them is no text."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    whole = len(texts) == len(parts) and all(isinstance(text, str) for text in texts)
    return "".join(map(str, texts)) if whole else None


def kind(value: object) -> str:
    """What kind of JSON value this is, in words."""
    names = {
        type(None): _("nothing"),
        bool: _("true or false"),
        int: _("a number"),
        float: _("a number"),
        str: _("a text"),
    }
    return names.get(type(value), _("a list") if isinstance(value, list) else _("an object"))
