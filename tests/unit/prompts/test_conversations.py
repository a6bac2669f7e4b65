"""What counts as a prompt, and when two of them are the same."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.prompts.conversations import ConversationError, digest, from_text, is_held_out, normalise


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


def test_a_plain_text_is_one_users_turn() -> None:
    assert from_text("How do I boil an egg?  \n", max_chars=100) == [user("How do I boil an egg?")]


def test_a_whole_conversation_passes() -> None:
    turns = [system("Be brief."), user("Hello"), assistant("Hi!"), user("How are you?")]
    assert normalise(turns, max_chars=100) == turns


@pytest.mark.parametrize(
    ("one", "other"),
    [("caf\u00e9", "cafe\u0301"), ("a\r\nb", "a\nb"), ("a\rb", "a\nb"), ("a \n\n", "a")],
    ids=["nfc", "crlf", "cr", "trailing space"],
)
def test_ways_to_write_the_same_have_one_digest(one: str, other: str) -> None:
    assert digest(from_text(one, max_chars=9)) == digest(from_text(other, max_chars=9))


def test_indentation_at_the_start_and_case_matter() -> None:
    texts = ["a", " a", "A", "a\nb", "a b"]
    assert len({digest(from_text(text, max_chars=9)) for text in texts}) == len(texts)


def test_the_role_is_part_of_the_digest() -> None:
    assert digest([system("a"), user("b")]) != digest([user("a"), user("b")])


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "at least one message"),
        ("hello", "at least one message"),
        ([user("  \n")], "message 1 is empty"),
        ([user("a"), assistant("b")], "must end with a user's turn"),
        ([system("a")], "must end with a user's turn"),
        ([user("a"), system("b"), user("c")], "message 2 is a system message"),
        ([system("a"), system("b"), user("c")], "message 2 is a system message"),
        ([assistant("a"), user("b")], "the user speaks first"),
        ([user("a"), user("b")], "message 2 is again the user's"),
        ([system("s"), user("a"), assistant("b"), assistant("c"), user("d")], "message 4 is again the assistant's"),
        ([{"role": "human", "content": "a"}], "'human'; use system, user or assistant"),
        ([{"role": "user", "content": 7}], "not a number"),
        ([{"role": "user", "content": [{"type": "image"}]}], "not a list"),
        ([{"role": "user"}], "not nothing"),
        ([{"role": "user", "content": "a", "name": "Bo"}], "has 'name'"),
        (["a"], "message 1 must be an object"),
        ([user("a\0b")], "null character"),
        ([user("a\ud800b")], "lone surrogate"),
        ([user("x" * 101)], "101 characters, at most 100"),
        ([user("x")] * 201, "201 messages, at most 200"),
    ],
)
def test_what_is_no_prompt_is_refused_with_the_reason(messages: Any, says: str) -> None:
    with pytest.raises(ConversationError) as caught:
        normalise(messages, max_chars=100)
    assert says in caught.value.message


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1))
def test_normalising_twice_changes_nothing(texts: list[str]) -> None:
    texts = [text if text.strip() else "a" for text in texts]
    if len(texts) % 2 == 0:
        texts.append("b")
    turns = [user(text) if number % 2 == 0 else assistant(text) for number, text in enumerate(texts)]
    once = normalise(turns, max_chars=10**6)
    assert normalise(once, max_chars=10**6) == once


def test_a_tenth_is_held_out_and_always_the_same_tenth() -> None:
    project = uuid.UUID(int=7)
    digests = [digest(from_text(f"question {n}", max_chars=99)) for n in range(3000)]
    held = {key for key in digests if is_held_out(project, key, 10)}
    assert 240 <= len(held) <= 360  # 300 expected, standard deviation 16
    assert held == {key for key in digests if is_held_out(project, key, 10)}
    assert held <= {key for key in digests if is_held_out(project, key, 20)}
    assert held != {key for key in digests if is_held_out(uuid.UUID(int=8), key, 10)}


def test_none_is_held_out_at_nought_percent() -> None:
    assert not any(is_held_out(uuid.UUID(int=1), bytes([n]) * 32, 0) for n in range(256))
