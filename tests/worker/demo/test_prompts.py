"""The demo's prompts: enough of them, over all topics, and as the generator writes them."""

import itertools
import json
import random

from worker.demo import corpus
from worker.demo.facts import intents
from worker.demo.prompts import PROMPTS, prompts, read


def test_there_are_enough_and_no_two_alike() -> None:
    found = read()
    assert len(found) >= 240
    assert len({json.dumps(messages) for messages in found}) == len(found)
    assert sum(len(messages) > 1 for messages in found) >= 10


def test_they_end_with_the_user_and_take_turns() -> None:
    for messages in read():
        assert [message["role"] for message in messages] == (["user", "assistant"] * len(messages))[: len(messages)]
        assert messages[-1]["role"] == "user"


def test_the_file_is_what_the_generator_writes() -> None:
    assert read(PROMPTS) == prompts(random.Random(0))


def test_every_intent_is_asked_in_words_the_corpus_never_uses() -> None:
    asked = {messages[-1]["content"] for messages in read()}
    held_out = {question for intent in intents() for question in intent.held_out}
    assert held_out <= asked
    said = {m["content"] for c in itertools.islice(corpus.conversations(random.Random(0)), 5000) for m in c}
    assert not held_out & said
