"""The audit refuses what would train wrong, counts what people should know, and says how to mend it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.factories.jobs import completion, encode_prompt, group, make_groups, preference
from tests.factories.models import tokenizer
from worker.trainer.audit import Audit, Finding, data_findings, nearly_identical
from worker.trainer.data import parse_group
from worker.trainer.errors import RefusedError
from worker.trainer.examples import select

EOS = 2
Groups = list[dict[str, Any]]


def findings(groups: Groups, *, loss: str = "sigmoid", max_length: int = 256, made: Any = None) -> dict[str, Finding]:
    """The data findings by name; ``made`` is the tokenizer."""
    parsed = [parse_group(item) for item in groups]
    found = data_findings(
        parsed,
        select(parsed, loss, max_length),
        made or tokenizer(),
        eos_ids=frozenset({EOS}),
        vocabulary=384,
        max_length=max_length,
    )
    return {finding.name: finding for finding in found}


def test_good_data_passes() -> None:
    assert {finding.level for finding in findings(make_groups()).values()} == {"ok"}


def two_bos(groups: Groups) -> None:
    groups[0]["prompt_ids"].insert(0, 1)


def no_bos(groups: Groups) -> None:
    del groups[0]["prompt_ids"][0]
    groups[1]["prompt_ids"].insert(0, 1)


def bos_in_completion(groups: Groups) -> None:
    groups[0]["completions"][1]["ids"].insert(0, 1)


def missing_eos(groups: Groups) -> None:
    groups[0]["completions"][0]["ids"].pop()


def eos_after_cut(groups: Groups) -> None:
    groups[0]["completions"][0]["end"] = "length"


def foreign_text(groups: Groups) -> None:
    for item in groups:
        item["completions"][0]["text"] = "something else"


def foreign_ids(groups: Groups) -> None:
    groups[0]["completions"][0]["ids"].insert(0, 384)


def leak(groups: Groups) -> None:
    groups[-1]["prompt_ids"] = groups[0]["prompt_ids"]


@pytest.mark.parametrize(
    ("spoil", "name", "mend"),
    [
        (two_bos, "BOS", "tokenise the rendered template once"),
        (no_bos, "BOS", "tokenise the rendered template once"),
        (bos_in_completion, "BOS", "1 completions with one"),
        (missing_eos, "end tokens", "1 said to have ended lack the end token"),
        (eos_after_cut, "end tokens", "1 said to be cut off have it"),
        (foreign_text, "ids decode to text", "another tokenizer"),
        (foreign_ids, "highest token id", "another tokenizer"),
        (leak, "prompts in both splits", "one split"),
    ],
)
def test_what_would_train_wrong_is_refused(spoil: Callable[[Groups], None], name: str, mend: str) -> None:
    groups = make_groups()
    spoil(groups)
    found = findings(groups)[name]
    assert found.level == "refuse"
    assert mend in f"{found.value}; {found.note}"


def test_refusal_names_everything_at_once() -> None:
    audit = Audit()
    with pytest.raises(RefusedError, match=r"one: 1; mend it · three: 3; and this"):
        audit.add(
            [Finding("one", "1", "refuse", "mend it"), Finding("two", "2"), Finding("three", "3", "refuse", "and this")]
        )
    assert audit.table().splitlines()[0].startswith("x one")


def test_completions_too_long_are_left_out_with_their_judgements() -> None:
    """Those of one prompt that fit are learned from: one long answer takes nothing else with it."""
    groups = make_groups(6, 0)
    for item in groups[:2]:
        item["prompt_ids"] += [50] * 60
    long = completion("long", "tea " * 60)
    first, last = groups[2], groups[3]
    first["completions"].append(long)
    first["preferences"] += [preference("x", 0, 2, "a"), preference("y", 2, 1, "a")]
    first["rankings"] = [{"tiers": [[0], [1]]}, {"tiers": [[0], [1, 2]]}]
    first["labels"] = [{"completion": 2, "desirable": False}]
    last["completions"].insert(0, long)
    last["preferences"] = [preference("z", 2, 1, "a")]
    found = findings(groups, max_length=40)
    assert found["completions too long"].value == "6 of 14 above 40 tokens with their prompt"
    assert found["left out: too long"].value == "6"
    assert found["learned from: choice"].value == "4"
    assert found["preferences to train on"].value == "5 in 4 groups"
    example = select([parse_group(last)], "sigmoid", 40).train[0]
    assert [len(ids) for ids in example.unit.completions] == [len(c["ids"]) for c in last["completions"][1:]]
    assert (example.pairs[0].chosen, example.pairs[0].rejected) == (1, 0)


def test_nothing_to_train_on_says_why() -> None:
    groups = make_groups(3, 0)
    for item, outcome in zip(groups, ("tie", "both_bad", "tie"), strict=True):
        item["preferences"][0]["outcome"] = outcome
    found = findings(groups)["preferences to train on"]
    assert found.level == "refuse"
    assert "1 both_bad, 2 tie" in found.note
    assert found.note.endswith(
        "; collect clear choices, or use a loss that reads tie (rao_kupper, davidson), "
        "or use a loss that reads both_bad (kto)"
    )
    found = findings(groups, max_length=12)["preferences to train on"]
    assert "(3 too long); collect clear choices, or raise max_length" in found.note


def test_what_the_loss_does_not_read_is_counted_by_name() -> None:
    groups = make_groups(5, 0)
    groups[0]["preferences"][0]["outcome"] = "tie"
    groups[1]["preferences"][0]["outcome"] = "both_bad"
    groups[2]["preferences"][0]["weight"] = 0
    groups[3]["completions"][1] = groups[3]["completions"][0] | {"id": "same"}
    groups[4]["labels"] = [{"completion": 0, "desirable": True}]
    groups[4]["rankings"] = [{"tiers": [[1], [0]]}]
    found = findings(groups)
    names = {name.removeprefix("left out: ") for name in found if name.startswith("left out: ")}
    assert names == {"tie", "both_bad", "weight 0", "identical", "label"}
    learned = {name: finding.value for name, finding in found.items() if name.startswith("learned from: ")}
    assert learned == {"learned from: choice": "1", "learned from: ranking": "1"}


def test_pairs_that_people_should_know_of_are_counted() -> None:
    """One pair a near copy, one given twice with opposite choices, one with a cut-off side."""
    prompt = encode_prompt("tea")
    long = "tea boat rain walk bread letter garden lamp river quiet morning table"
    near = group(
        "near",
        "train",
        [*prompt, 70],
        [completion("a", f"{long} {long}"), completion("b", f"{long} {long} tea")],
        [preference("n", 0, 1, "a")],
    )
    torn = group(
        "torn",
        "train",
        prompt,
        [completion("a", "boat"), completion("b", "rain walk")],
        [preference("x", 0, 1, "a"), preference("y", 1, 0, "a"), preference("z", 0, 1, "a")],
    )
    cut = group(
        "cut",
        "train",
        [*prompt, 71],
        [completion("a", "boat bread", end="length"), completion("b", "rain walk")],
        [preference("c", 0, 1, "a")],
    )
    found = findings([near, torn, cut])
    assert found["nearly identical pairs"].value == "1 of 5"
    assert found["contradicting preferences"].value == "1 of 5"
    assert found["repeated pairs"].value == "2"
    assert found["pairs with a cut-off side"].value == "1 of 5"
    assert found["cut off by length"].value == "1 of 6 completions"


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ("one token of ten is another", "replace", True),
        ("one token of ten is missing", "delete", True),
        ("two tokens of ten are others", "replace two", False),
        ("the same tokens in another order", "reverse", False),
    ],
)
def test_nearly_identical_is_an_edit_distance(a: str, b: str, near: bool) -> None:
    """Ten tokens; the bound is one edit in ten. ``a`` names the case, ``b`` the edit."""
    ids = list(range(50, 60))
    edits = {"replace": [*ids[:9], 99], "delete": ids[:9], "replace two": [98, *ids[1:9], 99], "reverse": ids[::-1]}
    assert nearly_identical(ids, edits[b]) is near, a


def test_written_answers_without_an_end_are_warned_of() -> None:
    groups = make_groups(2, 0)
    groups[0]["completions"][0] = completion("h", "tea", end="human")
    assert findings(groups)["written answers without end"].level == "warn"


def test_stop_string_may_be_missing_from_the_text() -> None:
    groups = make_groups(2, 0)
    answer = completion("s", "tea boat rain", end="stop")
    groups[0]["completions"][0] = answer | {"text": "tea boat"}
    assert findings(groups)["ids decode to text"].level == "ok"


@pytest.mark.parametrize("text", ["<|user|> tea", "tea <|user|>", "tea<|eos|>", "tea"])
def test_text_may_hold_special_tokens(text: str) -> None:
    """A think tag that is one, or the end token itself; the end token that was put behind it is not part of it."""
    groups = make_groups(2, 0)
    groups[0]["completions"][0] = completion("s", text.removesuffix("<|eos|>")) | {"text": text}
    assert findings(groups)["ids decode to text"].value == "4 of 4 as people saw them"


def test_where_bos_ends_answers_an_empty_one_begins_with_it() -> None:
    made = copy.deepcopy(tokenizer())
    made.bos_token = "<|eos|>"
    groups = make_groups(2, 0)
    for item in groups:
        item["prompt_ids"][0] = EOS
    groups[0]["completions"][0] = completion("empty", "")
    assert findings(groups, made=made)["BOS"].level == "ok"


def test_a_tokenizer_without_a_template_says_by_itself_how_prompts_begin() -> None:
    made = copy.deepcopy(tokenizer())
    made.chat_template = None
    groups = make_groups(2, 0)
    for item in groups:
        del item["prompt_ids"][0]
    bos = findings(groups, made=made)["BOS"]
    assert (bos.level, bos.value) == ("ok", "none in 2 prompts, as the tokenizer has it")
    assert findings(make_groups(2, 0), made=made)["BOS"].level == "refuse"
