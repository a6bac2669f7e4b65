"""What a loss reads of what people said, and how much of it there is."""

from typing import Any

import pytest

from tests.factories.jobs import completion, encode_prompt, group, preference
from worker.trainer.data import parse_group
from worker.trainer.examples import Example, lengths, select
from worker.trainer.split import Split

ANSWERS = [completion("c0", "tea"), completion("c1", "tea tea tea"), completion("c2", "tea tea tea tea tea tea")]
SIZES = [len(answer["ids"]) for answer in ANSWERS]


def read(loss: str, preferences: list[dict[str, Any]], **said: Any) -> Example:
    """One group, as the loss reads it."""
    made = group("g", "train", encode_prompt("what"), ANSWERS, preferences) | said
    (example,) = select([parse_group(made)], loss, 512).train
    return example


CHOICES = [preference("p", 0, 1, "a"), preference("q", 1, 2, "b"), preference("r", 0, 2, "tie")]


@pytest.mark.parametrize(("loss", "preferences", "decided"), [("sigmoid", 2, 2), ("rao_kupper", 3, 2), ("kto", 2, 2)])
def test_a_preference_counts_once_whatever_becomes_of_it(loss: str, preferences: int, decided: int) -> None:
    example = read(loss, CHOICES)
    assert (example.preferences, example.decided) == (preferences, decided)
    assert Split([example], {}).compared([0]) == 2


def test_of_how_many_prompts_agreement_is_told_apart_from_of_how_many_choices() -> None:
    """Two choices of one prompt, a piece of the same prompt cut off, one of another, and one with a tie alone."""
    one, another, tied = (
        parse_group(group(name, "train", encode_prompt("what"), ANSWERS, said))
        for name, said in (("g", CHOICES), ("h", CHOICES[:1]), ("i", CHOICES[2:]))
    )
    split = Split(select([one, one, another, tied], "rao_kupper", 512).train, {})
    assert (split.compared(range(4)), split.prompts(range(4))) == (5, 2)


def test_so_does_a_ranking_that_implies_three_pairs() -> None:
    example = read("sigmoid", [], rankings=[{"tiers": [[2], [0], [1]], "weight": 1.0}])
    assert (len(example.pairs), example.size, example.preferences, example.decided) == (3, 1, 1, 1)


def test_agreement_is_of_labels_only_where_there_is_no_choice() -> None:
    labels = [{"completion": n, "desirable": n == 2, "weight": 1.0} for n in range(3)]
    alone, beside = read("kto", [], labels=labels), read("kto", CHOICES[:1], labels=labels)
    assert Split([alone], {}).compared([0]) == 3
    assert Split([beside], {}).compared([0]) == 1
    assert beside.preferences == 4


def test_lengths_are_means_over_everything_by_weight_and_ties_have_none() -> None:
    heavy = preference("q", 1, 2, "b") | {"weight": 3.0}
    example = read("rao_kupper", [CHOICES[0], heavy, CHOICES[2]])
    chosen, rejected = (SIZES[0] + 3 * SIZES[2]) / 4, (SIZES[1] + 3 * SIZES[1]) / 4
    assert lengths([example]) == pytest.approx(
        {"chosen_tokens": chosen, "rejected_tokens": rejected, "length_delta": chosen - rejected}
    )
    assert lengths([]) == {}


def test_lengths_of_labels_are_of_good_and_bad_answers() -> None:
    labels = [{"completion": n, "desirable": n == 2, "weight": 1.0} for n in range(3)]
    found = lengths([read("kto", [], labels=labels)])
    assert found["length_delta"] == pytest.approx(SIZES[2] - (SIZES[0] + SIZES[1]) / 2)
    assert lengths([read("kto", [], labels=labels[2:])]) == {}
