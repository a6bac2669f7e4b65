"""``--columns``: data sets whose columns are called otherwise, and names that are not there."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.rounds.spec import SpecError
from tests.factories.models import tokenizer
from tests.worker.trainer.test_cli import _signals_as_before, train
from worker.trainer.cli import OTHERS, request
from worker.trainer.data import Group
from worker.trainer.dataset import load_groups
from worker.trainer.errors import RefusedError
from worker.trainer.options import read_configuration
from worker.trainer.renaming import columns_of

__all__ = ["_signals_as_before"]

EOS = frozenset({2})


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def load(file: Path, given: Any) -> list[Group]:
    return load_groups([file], tokenizer(), EOS, 0.0, columns=columns_of(given))[0]


def test_other_names_are_read_as_the_usual_ones(tmp_path: Path) -> None:
    """Also where a column has our name and another meaning, and where two names have changed places."""
    usual = write(tmp_path / "usual.jsonl", [{"prompt": "tea ", "chosen": "boat", "rejected": "rain", "weight": 2}])
    theirs = {"instruction": "tea ", "rejected": "boat", "chosen": "rain", "prompt": 7, "score": 2, "label": 1}
    other = write(tmp_path / "other.jsonl", [theirs | {"completion": None, "label": None}])
    given = "prompt=instruction, chosen=rejected, rejected=chosen, weight=score"
    assert load(other, given) == load(usual, {})
    labelled = write(tmp_path / "labelled.jsonl", [{"prompt": "tea ", "completion": "boat", "label": True}])
    other = write(tmp_path / "good.jsonl", [{"q": "tea ", "chosen": "boat", "good": True}])
    assert load(other, {"prompt": "q", "completion": "chosen", "label": "good"}) == load(labelled, {})


def test_rows_of_the_usual_names_may_stand_among_them(tmp_path: Path) -> None:
    rows = [{"q": "tea ", "chosen": "boat", "rejected": "rain"}, {"prompt": "lamp ", "chosen": "a", "rejected": "b"}]
    assert len(load(write(tmp_path / "rows.jsonl", rows), "prompt=q")) == 2


def test_a_name_that_no_row_has_is_told_with_those_there_are(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [{"instruction": "tea ", "better": "boat", "worse": "rain"}] * 30)
    with pytest.raises(
        RefusedError,
        match=r"^columns names 'good' for chosen, 'bad' for rejected, and no row has it; rows.jsonl line 1 has "
        "instruction, better, worse$",
    ):
        load(file, "prompt=instruction,chosen=good,rejected=bad")


def test_a_row_that_lacks_a_name_says_so(tmp_path: Path) -> None:
    rows = [{"q": "tea ", "good": "boat", "rejected": "rain"}, {"q": "tea ", "nice": "boat", "rejected": "rain"}]
    with pytest.raises(RefusedError, match=r"line 2: .*\(columns names 'good' for chosen, which this row has"):
        load(write(tmp_path / "rows.jsonl", rows), "prompt=q,chosen=good")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("question=q", "columns: 'question' is no column that is read; those are prompt, chosen, rejected"),
        ("prompt", "columns: prompt is given ''; write prompt=NAME"),
        ({"prompt": 5}, "columns: prompt is given 5; write prompt=NAME"),
        ("prompt=a,prompt=b", "columns: 'prompt' is named twice"),
        ("chosen=a,rejected=a", "columns: 'a' is named twice"),
        (["prompt"], "is no mapping; write prompt=THEIRS"),
    ],
)
def test_what_is_no_naming_of_columns(given: Any, says: str) -> None:
    with pytest.raises(SpecError) as said:
        columns_of(given)
    assert says in str(said.value)


def test_by_option_and_by_configuration(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: m\ndata: d\noutput: o\ncolumns: {prompt: q, chosen: good}\n")
    assert request(read_configuration(file, OTHERS)).columns == {"prompt": "q", "chosen": "good"}
    rows = [{"q": f"tea {number} ", "good": "boat", "rejected": "rain"} for number in range(9)]
    data = write(tmp_path / "rows.jsonl", rows)
    result = train(data, tmp_path / "new", "--columns", "prompt=q,chosen=good", "--dry-run")
    assert result.exit_code == 0, result.output
    result = train(data, tmp_path / "new", "--columns", "prompt=q,chosen=better", "--dry-run")
    assert result.exit_code == 2
    assert "columns names 'better' for chosen, and no row has it" in result.stderr.splitlines()[-1]
