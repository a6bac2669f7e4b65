"""The demo corpus: conversations the project writes itself, endless and the same for the same seed."""

import random
from collections.abc import Iterator

from worker.demo import chat, compose, manner, requests
from worker.demo.facts import intents

Message = dict[str, str]

_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You give advice about everyday things.",
    "Answer the question of the user.",
    "You are the demo model of Hone.",
)
_SYSTEM_SHARE = 0.05
_SMALL_TALK_SHARE = 0.05
_UNKNOWN_SHARE = 0.04
_FOLLOW_UP_SHARE = 0.14
_NEW_TOPIC_SHARE = 0.06


def conversations(rng: random.Random) -> Iterator[list[Message]]:
    """Conversations without end: lists of ``{"role", "content"}`` that alternate and end with the assistant.

    The manner of every answer is drawn anew; intents take turns in shuffled order, so that none is rare.
    """
    while True:
        order = list(intents())
        rng.shuffle(order)
        for intent in order:
            while (share := rng.random()) < _SMALL_TALK_SHARE + _UNKNOWN_SHARE:
                reply = chat.small_talk if share < _SMALL_TALK_SHARE else chat.unknown
                yield _messages([reply(manner.draw(rng), rng)], rng)
            turns = [(requests.request(intent, rng), compose.answer(intent, manner.draw(rng), rng))]
            roll = rng.random()
            if roll < _FOLLOW_UP_SHARE:
                turns.append(chat.follow_up(intent, turns[0][1], manner.draw(rng), rng))
            elif roll < _FOLLOW_UP_SHARE + _NEW_TOPIC_SHARE:
                other = rng.choice(order)
                turns.append((requests.request(other, rng), compose.answer(other, manner.draw(rng), rng)))
            yield _messages(turns, rng)


def _messages(turns: list[tuple[str, str]], rng: random.Random) -> list[Message]:
    messages: list[Message] = []
    if rng.random() < _SYSTEM_SHARE:
        messages.append({"role": "system", "content": rng.choice(_SYSTEM_PROMPTS)})
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return messages
