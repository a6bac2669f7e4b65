"""Files of this field as groups: what is read, how it is tokenised, and how a bad row is named."""

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.factories.jobs import encode_prompt, make_groups
from tests.factories.models import tokenizer
from worker.trainer.data import Group, group_to_dict
from worker.trainer.dataset import load_groups
from worker.trainer.errors import RefusedError
from worker.trainer.rows import split_prompt

EOS = 2


def talk(question: str, chosen: str, rejected: str) -> dict[str, Any]:
    """A conversational row."""
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def write(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(file: Path, eval_fraction: float = 0.0) -> list[Group]:
    return load_groups([file], tokenizer(), frozenset({EOS}), eval_fraction)[0]


def test_conversation_is_the_chat_template(tmp_path: Path) -> None:
    (group,) = read(write(tmp_path / "a.jsonl", [talk("tea", "boat", "rain")]))
    assert group.prompt_ids == encode_prompt("tea")
    words = [tokenizer()(text, add_special_tokens=False)["input_ids"] for text in ("boat", "rain")]
    assert [c.ids for c in group.completions] == [[*ids, EOS] for ids in words]
    assert [(c.text, c.end) for c in group.completions] == [("boat", "eos"), ("rain", "eos")]
    (preference,) = group.preferences
    assert (preference.a, preference.b, preference.outcome) == (0, 1, "a")


def test_rows_of_one_prompt_are_one_group_with_each_answer_once(tmp_path: Path) -> None:
    rows = [talk("tea", "boat", "rain"), talk("tea", "boat", "walk"), talk("lamp", "boat", "rain")]
    first, second = read(write(tmp_path / "a.jsonl", rows))
    assert [c.text for c in first.completions] == ["boat", "rain", "walk"]
    assert [(p.a, p.b) for p in first.preferences] == [(0, 1), (0, 2)]
    assert len(second.completions) == 2


def test_plain_text_ends_with_the_end_token(tmp_path: Path) -> None:
    row = {"prompt": "tea", "chosen": " boat", "rejected": " rain", "margin": 0.5, "weight": 2}
    (group,) = read(write(tmp_path / "a.jsonl", [row]))
    assert group.prompt_ids == tokenizer()("tea")["input_ids"]
    assert all(c.ids[-1] == EOS for c in group.completions)
    assert (group.preferences[0].margin, group.preferences[0].weight) == (0.5, 2.0)


def test_a_prompt_that_stands_in_both_answers(tmp_path: Path) -> None:
    """Plain or conversational, it is what both begin with, as in TRL; the space before the answers is theirs."""
    whole = talk("tea", "boat", "rain")
    implicit = {name: whole["prompt"] + whole[name] for name in ("chosen", "rejected")}
    assert read(write(tmp_path / "a.jsonl", [implicit])) == read(write(tmp_path / "b.jsonl", [whole]))
    plain = {"chosen": "tea boat please", "rejected": "tea boat never"}
    (group,) = read(write(tmp_path / "c.jsonl", [plain]))
    assert group.prompt_ids == tokenizer()("tea boat")["input_ids"]
    assert [c.text for c in group.completions] == [" please", " never"]


# TRL warns of its own affairs while it is imported.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [("tea boat please", "tea boat never"), ("Q: tea\nA: boat", "Q: tea\nA: rain"), ("a b c", "a b d e")],
)
def test_implicit_prompts_are_those_of_trl(chosen: str, rejected: str) -> None:
    from trl.data_utils import extract_prompt

    theirs = extract_prompt({"chosen": chosen, "rejected": rejected})
    assert split_prompt(chosen, rejected) == (theirs["prompt"], theirs["chosen"], theirs["rejected"])


def test_labelled_answers(tmp_path: Path) -> None:
    """The unpaired form: answers of one prompt stand in one group, beside its preferences."""
    rows = [
        {"prompt": "tea ", "completion": "boat", "label": True},
        {"prompt": "tea ", "completion": "rain", "label": False, "weight": 2},
        {"prompt": "tea ", "chosen": "boat", "rejected": "walk"},
        {"prompt": talk("tea", "", "")["prompt"], "completion": talk("", "boat", "")["chosen"], "label": True},
    ]
    first, second = read(write(tmp_path / "a.jsonl", rows))
    assert [(x.completion, x.desirable, x.weight) for x in first.labels] == [(0, True, 1.0), (1, False, 2.0)]
    assert [(p.a, p.b) for p in first.preferences] == [(0, 2)]
    assert (second.prompt_ids, len(second.completions)) == (encode_prompt("tea"), 1)


def test_text_parts_are_joined(tmp_path: Path) -> None:
    parts = talk("tea", "boat", "rain")
    parts["prompt"] = [{"role": "user", "content": [{"type": "text", "text": "te"}, {"type": "text", "text": "a"}]}]
    assert read(write(tmp_path / "a.jsonl", [parts]))[0].prompt_ids == encode_prompt("tea")


def test_a_group_given_twice_is_named(tmp_path: Path) -> None:
    (one,) = make_groups(1, 0)
    with pytest.raises(RefusedError, match=r"a.jsonl line 2: group id 'g0' was on a.jsonl line 1 already"):
        read(write(tmp_path / "a.jsonl", [one, one]))


def test_parquet_is_read_as_json_lines_are(tmp_path: Path) -> None:
    rows = [talk("tea", "boat", "rain"), talk("lamp", "walk", "rain")]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == read(write(tmp_path / "a.jsonl", rows))


def test_own_format_is_taken_as_it_is(tmp_path: Path) -> None:
    groups = make_groups(2, 1)
    read_back = [group_to_dict(group) for group in read(write(tmp_path / "a.jsonl", groups))]
    assert read_back == [group | {"labels": [], "rankings": []} for group in groups]


def test_held_out_prompts_are_chosen_by_their_hash(tmp_path: Path) -> None:
    """About the fraction asked for, and the same prompts whatever else is in the file."""
    rows = [talk(f"tea {number}", "boat", "rain") for number in range(200)]
    whole = {tuple(g.prompt_ids): g.split for g in read(write(tmp_path / "a.jsonl", rows), 0.2)}
    half = {tuple(g.prompt_ids): g.split for g in read(write(tmp_path / "b.jsonl", rows[::2]), 0.2)}
    assert 20 <= list(whole.values()).count("eval") <= 60
    assert half.items() <= whole.items()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "tea", "chosen": "boat"}, "no 'rejected'"),
        ({"chosen": "boat", "rejected": "rain"}, "share no beginning"),
        ({"chosen": "tea boat", "rejected": "tea"}, "one answer is the beginning of the other"),
        ({"chosen": "tea", "rejected": talk("", "", "rain")["rejected"]}, "are of two kinds"),
        ({"prompt": "tea", "completion": "boat"}, "label None is neither true nor false"),
        ({"prompt": "tea", "label": True}, "no 'completion'"),
        ({"completion": "tea", "label": True}, "no 'prompt'"),
        ({"prompt": "tea", "completion": "boat", "label": 1, "chosen": "x"}, "one form or the other"),
        ({"prompt": "tea", "chosen": "boat", "rejected": ["rain"]}, "rejected is a list of str"),
        ({"prompt": "tea", "chosen": "boat", "rejected": None}, "rejected is empty; fill it in"),
        ({"prompt": "tea", "chosen": "", "rejected": "rain"}, "chosen is empty"),
        ({"prompt": None, "chosen": "boat", "rejected": "rain"}, "call the prompt's column 'prompt'"),
        ({"question": "tea", "good": "boat"}, "no 'chosen' among the columns question, good; a row has"),
        ({"prompt": "tea \ud83d", "chosen": "boat", "rejected": "rain"}, r"prompt holds half a character, \\ud83d"),
        (
            talk("tea", "boat", "rain") | {"chosen": [{"from": "gpt", "value": "boat"}]},
            "chosen holds a message without a text for 'role' and 'content'; it has from, value",
        ),
        (
            talk("tea", "boat", "rain") | {"chosen": [{"role": "gpt", "content": "boat"}]},
            r"check the roles \(user, gpt\)",
        ),
        ({"prompt": "tea", "chosen": "boat", "rejected": 3}, "rejected is int"),
        ({"prompt": "tea", "chosen": "boat", "rejected": "rain", "prompt_ids": [5]}, "rows that TRL has tokenised"),
        ({"prompt": "tea", "chosen": "boat", "rejected": "rain", "images": ["a.png"]}, "images is not read"),
        ({"prompt": "tea", "chosen": "boat", "rejected": "rain", "tools": [{}]}, "tools is for the chat template"),
        (talk("tea", "boat", "rain") | {"tools": "lookup"}, "tools is a text that is not JSON"),
        (talk("tea", "boat", "rain") | {"tools": [1]}, "is no list of JSON schemas"),
        (talk("tea", "boat", "rain") | {"chat_template_kwargs": [1]}, "chat_template_kwargs .* is no object"),
        (
            talk("tea", "boat", "rain") | {"chat_template_kwargs": {"tokenize": False}},
            "chat_template_kwargs names tokenize, which is the tokenizer's",
        ),
        (
            talk("tea", "boat", "rain") | {"chosen": [{"role": "assistant", "tool_calls": [{"name": "lookup"}]}]},
            "chosen has tool_calls, which the chat template does not render",
        ),
        ({"prompt": "tea", "chosen": "boat", "rejected": "rain", "weight": -1}, "weight -1 is negative"),
        ({"prompt": "tea", "chosen": "boat", "rejected": "rain", "margin": "much"}, "margin 'much'"),
        (talk("tea", "boat", "rain") | {"chosen": [{"role": "assistant"}]}, "chosen holds a message without"),
        (talk("tea", "boat", "rain") | {"chosen": "boat"}, "chosen is a text and prompt is not"),
        ([1], "holds list, not an object"),
    ],
)
def test_bad_row_is_named_by_file_and_line(tmp_path: Path, row: Any, says: str) -> None:
    file = write(tmp_path / "rows.jsonl", [talk("tea", "boat", "rain"), row])
    with pytest.raises(RefusedError, match=f"rows.jsonl line 2: .*{says}"):
        read(file)


ROW = json.dumps(talk("tea", "boat", "rain"))

UNREADABLE = [
    ("a.parquet", b"no parquet", "cannot be read as Parquet: .*; JSON lines have the ending .jsonl"),
    ("empty.jsonl", b"", "empty.jsonl holds no rows; write one"),
    ("blank.jsonl", b"\n  \n", "blank.jsonl holds no rows"),
    ("torn.jsonl", f'{ROW}\n{{"prompt": '.encode(), "torn.jsonl line 2: not JSON: .*; write one object a line"),
    ("array.jsonl", f"[{ROW}]".encode(), "line 1: holds list, not an object; write one object a line"),
    ("deep.jsonl", b"[" * 100_000, "line 1: not JSON: maximum recursion"),
    (
        "latin.jsonl",
        f"{ROW}\n".encode() + '{"prompt": "café"}'.encode("latin-1"),
        "line 2: byte 0xe9 in column 16 is not",
    ),
    ("wide.jsonl", ROW.encode("utf-16"), "line 1: byte 0xff in column 1 is not UTF-8; save the file as UTF-8"),
    ("packed.jsonl", gzip.compress(ROW.encode()), "line 1: byte 0x8b in column 2 is not UTF-8; .* also .gz"),
    ("torn.jsonl.gz", gzip.compress(ROW.encode())[:-9], "torn.jsonl.gz cannot be unpacked: .*; pack it again"),
    ("plain.jsonl.gz", ROW.encode(), "plain.jsonl.gz cannot be unpacked: Not a gzipped file"),
    (
        "rows.csv",
        b"prompt,chosen,rejected\n",
        r"line 1: not JSON: .*; JSON lines \(.*\), .* and Parquet \(.parquet\) are",
    ),
    ("torn.json", b'[{"prompt": "a"},\n{"prompt": ', "torn.json: not JSON: .*line 2"),
    ("lines.json", f"{ROW}\n[{ROW}]\n".encode(), "lines.json line 2: holds list, not an object"),
    ("texts.json", b'["a"]', "texts.json row 1: holds str, not an object"),
    ("latin.json", '[{"prompt":\n "café"}]'.encode("latin-1"), "latin.json: byte 0xe9 in column 6 is not UTF-8"),
    (
        "twice.jsonl",
        b'{"prompt": "a", "chosen": "b", "rejected": "c", "chosen": "d"}',
        "line 1: the key 'chosen' stands",
    ),
]


@pytest.mark.parametrize(("name", "content", "says"), UNREADABLE, ids=[name for name, _, _ in UNREADABLE])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RefusedError, match=says):
        read(tmp_path / name)


def test_a_directory_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "inner" / "train-0.parquet").touch()
    with pytest.raises(
        RefusedError,
        match=r"is a directory; name a file in it, or those to train on by a pattern .*, as '.*/\*\*/\*.parquet'",
    ):
        read(tmp_path / "data")
    with pytest.raises(RefusedError, match=r"absent.jsonl cannot be read: No such file or directory"):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(RefusedError, match=r"no file is named like .*/\*.jsonl; see which there are"):
        read(tmp_path / "*.jsonl")


def test_files_as_other_systems_write_them(tmp_path: Path) -> None:
    """With a byte order mark, with CRLF, without a last newline, with an ending in capitals."""
    expected = read(write(tmp_path / "a.jsonl", [talk("tea", "boat", "rain")]))
    for name, content in (("bom", b"\xef\xbb\xbf" + ROW.encode()), ("crlf", ROW.encode() + b"\r\n\r\n")):
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == expected
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(ROW.encode()))
    assert read(tmp_path / "a.jsonl.gz") == expected
    for name, content in (("a.json", f"\n[{ROW},\n {ROW.replace('tea', 'lamp')}]"), ("b.json", f"[\n{ROW}\n]\n")):
        (tmp_path / name).write_text(content)
    assert read(tmp_path / "b.json") == expected
    assert [group.prompt_ids for group in read(tmp_path / "a.json")] == [encode_prompt("tea"), encode_prompt("lamp")]
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(f"[{ROW}]".encode()))
    assert read(tmp_path / "a.json.gz") == expected
    parquet.write_table(pa.Table.from_pylist([talk("tea", "boat", "rain")]), tmp_path / "a.PARQUET")
    assert read(tmp_path / "a.PARQUET") == expected


def test_shards_are_read_by_name_and_by_pattern(tmp_path: Path) -> None:
    """In the order of their names, each once, whatever their kind; a name with brackets that is there is a name."""
    rows = [talk(f"tea {number}", "boat", "rain") for number in range(6)]
    whole = read(write(tmp_path / "whole.jsonl", rows))
    for number in range(3):
        part = pa.Table.from_pylist(rows[2 * number : 2 * number + 2])
        parquet.write_table(part, tmp_path / f"train-{number}.parquet")
    load = partial(load_groups, tokenizer=tokenizer(), eos_ids=frozenset({EOS}), eval_fraction=0.0)
    assert load([tmp_path / "train-*.parquet"])[0] == whole
    assert load([tmp_path / "train-0.parquet", tmp_path / "*-[012].parquet"])[0] == whole
    first = write(tmp_path / "a [1].jsonl", rows[:2])
    assert load([first, tmp_path / "train-1.parquet", tmp_path / "train-2.parquet"])[0] == whole


def test_files_of_their_own_are_held_out(tmp_path: Path) -> None:
    """All of them, and no row of their prompts is trained on, also where its answers cut the prompt elsewhere."""
    held_out = [talk("tea", "boat", "rain"), {"prompt": "lamp ", "chosen": "boat", "rejected": "rain"}]
    rows = [
        talk("tea", "walk", "rain"),
        {"prompt": "lamp ", "chosen": "1", "rejected": "2"},
        talk("river", "boat", "rain"),
    ]
    files = [write(tmp_path / "a.jsonl", rows)], [write(tmp_path / "b.jsonl", held_out)]
    groups, findings = load_groups(files[0], tokenizer(), frozenset({EOS}), None, files[1])
    assert [(g.split, [c.text for c in g.completions]) for g in groups] == [
        ("eval", ["boat", "rain"]),
        ("eval", [" boat", " rain"]),
        ("train", ["boat", "rain"]),
    ]
    found = {f.name: (f.value, f.level) for f in findings}
    assert found["rows of prompts that eval_data holds out"] == ("2", "warn")
    with pytest.raises(RefusedError, match=r"b.jsonl holds 2 rows, all of prompts that eval_data holds out"):
        load_groups(files[1], tokenizer(), frozenset({EOS}), None, files[1])
    with pytest.raises(RefusedError, match=r"empty.jsonl holds no rows"):
        load_groups(files[0], tokenizer(), frozenset({EOS}), None, [write(tmp_path / "empty.jsonl", [])])


def test_groups_of_a_held_out_file_are_held_out_whatever_they_say(tmp_path: Path) -> None:
    one, two = make_groups(2, 0)
    files = [write(tmp_path / "a.jsonl", [one])], [write(tmp_path / "b.jsonl", [two])]
    groups, findings = load_groups(files[0], tokenizer(), frozenset({EOS}), None, files[1])
    assert {group.id: group.split for group in groups} == {one["id"]: "train", two["id"]: "eval"}
    assert findings == []
