"""What a prompt is: a conversation in one canonical form, so that equal ones are one row."""

import hashlib
import itertools
import json
import unicodedata
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from app.errors import InvalidError

Conversation = list[dict[str, str]]
ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 200


class ConversationError(InvalidError):
    """Not a conversation that a model could answer; the message says what is wrong and what to do."""

    code = "invalid_prompt"
    title = "This is not a prompt"


def normalise(messages: Any, *, max_chars: int) -> Conversation:
    """``messages`` checked and in canonical form: Unicode NFC, newlines as \\n, no space at the end of a turn.

    At most one system turn, and it comes first; user and assistant then take turns; a user's turn is last.

    Args:
        messages: [{"role": "system" | "user" | "assistant", "content": text}, …], from anywhere.
        max_chars: longest conversation, characters over all turns.

    Raises:
        ConversationError: anything else.
    """
    if not isinstance(messages, list) or not messages:
        raise ConversationError("a prompt needs at least one message: a user's turn")
    if len(messages) > MAX_MESSAGES:
        raise ConversationError(
            f"{len(messages)} messages, at most {MAX_MESSAGES} are allowed; shorten the conversation"
        )
    turns = [_turn(number, message) for number, message in enumerate(messages, start=1)]
    _check_order([turn["role"] for turn in turns])
    chars = sum(len(turn["content"]) for turn in turns)
    if chars > max_chars:
        raise ConversationError(f"{chars:,} characters, at most {max_chars:,} are allowed; shorten it")
    return turns


def from_text(text: Any, *, max_chars: int) -> Conversation:
    """A conversation of one user's turn. Raises ConversationError, as ``normalise`` does."""
    if not isinstance(text, str):
        raise ConversationError(f"the prompt must be a text, not {_kind(text)}")
    return normalise([{"role": "user", "content": text}], max_chars=max_chars)


def digest(conversation: Sequence[dict[str, str]]) -> bytes:
    """SHA-256 of a normalised conversation, 32 bytes."""
    turns = [[turn["role"], turn["content"]] for turn in conversation]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False, separators=(",", ":")).encode()).digest()


def is_held_out(project_id: UUID, prompt_digest: bytes, percent: int) -> bool:
    """Whether a prompt evaluates instead of training: by its digest, so that it is the same wherever it comes from."""
    return int.from_bytes(hashlib.sha256(project_id.bytes + prompt_digest).digest()[:8], "big") % 100 < percent


def _turn(number: int, message: Any) -> dict[str, str]:
    where = f"message {number}"
    if not isinstance(message, dict):
        raise ConversationError(f"{where} must be an object with role and content, not {_kind(message)}")
    unknown = sorted(str(key) for key in message if key not in ("role", "content"))
    if unknown:
        raise ConversationError(f"{where} has {unknown[0]!r}, which Hone does not read; leave only role and content")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ConversationError(f"{where} has the role {role!r}; use system, user or assistant")
    if not isinstance(content, str):
        raise ConversationError(f"{where} must have a text as content, not {_kind(content)}")
    if "\0" in content:
        raise ConversationError(f"{where} holds a null character, which cannot be stored; remove it")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise ConversationError(
            f"{where} holds half a character (a lone surrogate); write it as UTF-8 again"
        ) from error
    text = unicodedata.normalize("NFC", content.replace("\r\n", "\n").replace("\r", "\n")).rstrip()
    if not text.strip():
        raise ConversationError(f"{where} is empty; write something or remove it")
    return {"role": role, "content": text}


def _check_order(roles: list[str]) -> None:
    if "system" in roles[1:]:
        at = roles.index("system", 1) + 1
        raise ConversationError(f"message {at} is a system message; one is allowed, and only as the first message")
    if roles[-1] != "user":
        raise ConversationError(
            f"the last message is the {roles[-1]}'s; a prompt must end with a user's turn, which the model then answers"
        )
    spoken = roles[1:] if roles[0] == "system" else roles
    if spoken[0] != "user":
        raise ConversationError("after the system message, if any, the user speaks first")
    for number, (before, role) in enumerate(itertools.pairwise(spoken), start=len(roles) - len(spoken) + 2):
        if before == role:
            raise ConversationError(
                f"message {number} is again the {role}'s; user and assistant take turns, so join the two into one"
            )


def _kind(value: object) -> str:
    names = {type(None): "nothing", bool: "true or false", int: "a number", float: "a number", str: "a text"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
