"""The corpus: facts that are whole, answers that read as sentences, manners in their shares, the same for a seed."""

import itertools
import random
import re
from collections import Counter

import pytest

from worker.demo import compose, corpus, manner, requests
from worker.demo.facts import FactsError, Intent, intents, parse

NOT_IMPERATIVE = {"never", "always", "don't", "not", "please", "maybe", "just", "you", "to", "perhaps"}


def test_there_are_at_least_forty_topics_and_every_intent_is_whole() -> None:
    assert len({intent.topic for intent in intents()}) >= 40
    for intent in intents():
        assert intent.gist, intent.tasks
        assert intent.mistake, intent.tasks
        assert intent.sign, intent.tasks
        assert len(intent.tasks) >= 3, intent.tasks
        assert len(intent.situations) >= 2, intent.tasks
        assert intent.held_out, intent.tasks
        assert len(intent.tips) >= 5, intent.tasks
        assert intent.wrong, intent.tasks


def test_no_two_intents_share_a_task_or_a_piece_of_advice() -> None:
    tasks = Counter(task for intent in intents() for task in intent.tasks)
    assert not [task for task, count in tasks.items() if count > 1]
    advice = Counter(tip.do for intent in intents() for tip in intent.tips)
    assert not [do for do, count in advice.items() if count > 1]


@pytest.mark.parametrize("intent", intents(), ids=lambda intent: intent.tasks[0])
def test_the_pieces_fit_the_sentence_frames(intent: Intent) -> None:
    """Advice goes after "you could", reasons after "because": lower case, no full stop, no adverb in front."""
    pieces = [intent.gist, intent.mistake, intent.sign]
    for tip in [*intent.tips, *intent.wrong]:
        assert tip.do.split()[0] not in NOT_IMPERATIVE, tip.do
        pieces += [tip.do, tip.why]
    for piece in [*pieces, *intent.tasks]:
        assert piece == piece.strip()
        assert piece[0].islower() or piece.startswith("I "), piece
        assert not piece.endswith((".", "!", "?")), piece
    assert intent.mistake.split()[0].endswith("ing"), intent.mistake
    for situation in intent.situations:
        assert situation[0].isupper()
        assert not situation.endswith((".", "!", "?"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("? boil eggs", "x:1: an intent before any '# topic'"),
        ("# eggs\n+ boil : it helps", "x:2: '\\+' before any '\\? task'"),
        ("# eggs\n? boil eggs\n+ boil", "x:3: advice without ' : reason'"),
        ("# eggs\n? boil eggs\n* boil", "x:3: unknown kind of line '\\*'"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(text: str, says: str) -> None:
    with pytest.raises(FactsError, match=says):
        parse(text, "x")


def test_the_same_seed_writes_the_same_corpus_and_another_does_not() -> None:
    def first(seed: int) -> list[list[corpus.Message]]:
        return list(itertools.islice(corpus.conversations(random.Random(seed)), 200))

    assert first(3) == first(3)
    assert first(3) != first(4)


def test_conversations_alternate_and_end_with_the_assistant() -> None:
    for messages in itertools.islice(corpus.conversations(random.Random(0)), 2000):
        roles = [message["role"] for message in messages]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert turns
        assert all(message["content"].strip() == message["content"] != "" for message in messages)


def test_answers_are_sentences() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        text = compose.answer(rng.choice(intents()), manner.draw(rng), rng)
        assert "{" not in text
        assert "  " not in text
        assert text.endswith((".", "!"))
        for line in text.split("\n"):
            body = re.sub(r"^(\d\.|-) ", "", line)
            assert body[0].isupper(), text
            assert not re.search(r"[.!?] [a-z]", body), text


@pytest.mark.parametrize(
    ("part", "favoured", "share"),
    [("length", "short", 0.25), ("length", "long", 0.25), ("tone", "warm", 0.25), ("form", "steps", 0.25)],
)
def test_what_a_taste_favours_is_rare_enough_to_have_room(part: str, favoured: str, share: float) -> None:
    rng = random.Random(0)
    drawn = [getattr(manner.draw(rng), part) for _ in range(4000)]
    assert 0.15 <= drawn.count(favoured) / len(drawn) <= share + 0.01


def test_the_question_does_not_tell_the_manner() -> None:
    """Requests are drawn without the manner; so the words of a request say nothing about the answer's length."""
    rng = random.Random(5)
    lengths: dict[bool, list[int]] = {True: [], False: []}
    for messages in itertools.islice(corpus.conversations(rng), 6000):
        asked, answered = messages[-2]["content"], messages[-1]["content"]
        if len(messages) == 2 and len(asked.split()) > 4:
            lengths["?" in asked].append(len(answered.split()))
    means = {kind: sum(found) / len(found) for kind, found in lengths.items()}
    assert abs(means[True] - means[False]) < 3.0


def test_a_request_is_rarely_twice_the_same() -> None:
    rng = random.Random(0)
    intent = intents()[0]
    asked = [requests.request(intent, rng) for _ in range(300)]
    assert len(set(asked)) > 150


@pytest.mark.parametrize(
    ("task", "answered"),
    [
        ("keep my houseplants alive", "keep your houseplants alive"),
        ("look after myself when I am ill", "look after yourself when you are ill"),
        ("use my membership", "use your membership"),
    ],
)
def test_an_answer_turns_the_askers_words_round(task: str, answered: str) -> None:
    assert compose.second_person(task) == answered
