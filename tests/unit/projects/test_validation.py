"""Every setting of a project is checked, all at once, and each error names its field and both values."""

from pathlib import Path
from typing import Any

import pytest

from app.projects.schemas import ProjectIn
from app.projects.validation import ProjectInvalidError, draft

GOOD: dict[str, Any] = {"name": "Tone", "base_model": "owner/model"}


def errors(**values: Any) -> dict[str, str]:
    with pytest.raises(ProjectInvalidError) as caught:
        draft(ProjectIn, GOOD | values)
    return {error.field: error.message for error in caught.value.errors}


def test_defaults_are_filled_in() -> None:
    checked = draft(ProjectIn, GOOD | {"training": {"loss": "dpo"}})
    assert checked.training["loss"] == "sigmoid"
    assert checked.training["loss_settings"] == {"beta": 0.1}
    assert checked.sampling.temperature == 1.0
    assert checked.held_out_percent == 10


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"name": "  "}, "name", "cannot be empty"),
        ({"name": "x" * 121}, "name", "121 characters, at most 120"),
        ({"slug": "Tone!"}, "slug", "small letters"),
        ({"base_model": "nowhere"}, "base_model", "neither a hub id"),
        ({"votes_per_comparison": 0}, "votes_per_comparison", "at least 1, not 0"),
        ({"votes_per_comparison": "three"}, "votes_per_comparison", "a whole number, not 'three'"),
        ({"buffer_size": 10_001}, "buffer_size", "at most 10000, not 10001"),
        ({"lease_seconds": 9}, "lease_seconds", "at least 10, not 9"),
        ({"held_out_percent": 51}, "held_out_percent", "at most 50, not 51"),
        ({"promotion": "always"}, "promotion", "'manual', 'after_round' or 'gate', not 'always'"),
        ({"min_round_votes": 1}, "min_round_votes", "at least 2, not 1"),
        ({"round_every_votes": 1}, "round_every_votes", "at least 2, not 1"),
        ({"round_schedule": "daily"}, "round_schedule", "a crontab has 5"),
        ({"sampling": {"temperature": 0}}, "sampling.temperature", "above 0, not 0"),
        ({"sampling": {"top_p": 1.5}}, "sampling.top_p", "at most 1, not 1.5"),
        ({"sampling": {"max_tokens": 0}}, "sampling.max_tokens", "at least 1, not 0"),
        ({"sampling": {"beams": 4}}, "sampling.beams", "no such setting"),
        ({"training": {"loss": "magic"}}, "training.loss", "'magic' is unknown; known are sigmoid, dpop"),
        (
            {"training": {"loss": "sigmoid", "loss_settings": {"dpop_lambda": 5}}},
            "training.loss_settings.dpop_lambda",
            "does not read it; it reads beta",
        ),
        ({"training": {"method": "full", "lora_rank": 8}}, "training.lora_rank", "means nothing for method 'full'"),
        ({"training": {"epochs": 0}}, "training.epochs", "0 must be a whole number from 1"),
        ({"colour": "red"}, "colour", "no such setting"),
    ],
)
def test_a_bad_value_is_named_with_what_would_do(values: dict[str, Any], field: str, says: str) -> None:
    found = errors(**values)
    assert list(found) == [field]
    assert says in found[field]


def test_all_errors_come_at_once() -> None:
    found = errors(name="", base_model="", buffer_size=0, round_schedule="x", training={"loss": "magic"})
    assert set(found) == {"name", "base_model", "buffer_size", "round_schedule", "training.loss"}


def test_the_error_is_readable_by_programs() -> None:
    with pytest.raises(ProjectInvalidError) as caught:
        draft(ProjectIn, GOOD | {"buffer_size": 0})
    assert caught.value.code == "invalid_project"
    assert caught.value.status == 422
    assert caught.value.extra["errors"] == [{"field": "buffer_size", "message": "must be at least 1, not 0"}]


def test_a_directory_without_safetensors_is_an_error_of_its_field(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    assert "convert to safetensors" in errors(base_model=str(tmp_path))["base_model"]
