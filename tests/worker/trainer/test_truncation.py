"""Prompts that are too long with their answers: cut at their beginning where that is asked for, left out otherwise."""

from pathlib import Path

import pytest

from app.versions.manifest import VersionInfo
from tests.factories.jobs import completion, encode_prompt, group, make_groups, preference, write_job
from tests.factories.models import tokenizer
from worker.trainer.data import Group, parse_group
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.truncation import shorten

BOS = 1
PROMPT = [BOS, *range(100, 120)]


def made(*lengths: int, judged: tuple[int, int] = (0, 1), prompt: list[int] = PROMPT) -> Group:
    """A group with a prompt of 21 tokens and completions of these lengths, two of which are compared."""
    answers = [{"id": f"c{k}", "ids": [50] * n, "text": "", "end": "length"} for k, n in enumerate(lengths)]
    return parse_group(group("g", "train", prompt, answers, [preference("p", *judged, "a")]))


@pytest.mark.parametrize(
    ("lengths", "room"),
    [
        ((4, 9), 21),  # fits
        ((9, 4), 21),
        ((4, 10), 20),  # to what the longer one leaves
        ((4, 28), 2),  # one token of the prompt's own stays behind the begin token
        ((4, 29), 21),  # too long by itself: cut for the other one alone, which fits
        ((12, 29), 18),
        ((29, 29), 21),  # nothing could fit
        ((4, 10, 25), 20),  # nobody said anything about the third
    ],
)
def test_a_prompt_keeps_its_end_and_its_begin_token(lengths: tuple[int, ...], room: int) -> None:
    whole = made(*lengths)
    (cut,), findings = shorten([whole], 30, BOS)
    assert cut.prompt_ids == [BOS, *PROMPT[len(PROMPT) - room + 1 :]]
    assert cut.completions == whole.completions
    assert cut.preferences == whole.preferences
    assert [(f.name, f.value, f.level) for f in findings] == (
        [("prompts cut at their beginning", f"1 of 1, by {21 - room} tokens", "warn")] if room < 21 else []
    )


def test_without_a_begin_token_none_is_kept() -> None:
    (cut,), _ = shorten([made(4, 20, prompt=PROMPT[1:])], 30, None)
    assert cut.prompt_ids == PROMPT[-10:]
    (cut,), _ = shorten([made(4, 10, prompt=[BOS, *PROMPT])], 30, BOS)
    assert cut.prompt_ids == [BOS, BOS, *PROMPT[-18:]]


def test_a_job_learns_from_them_and_counts_them(tmp_path: Path) -> None:
    """The same groups: left out with 'never', trained on with 'prompt_start'; both told."""
    long = encode_prompt("tea and boat " * 12)
    answers = [completion("a", "tea"), completion("b", "rain")]
    groups = [*make_groups(6, 2), group("long", "train", long, answers, [preference("p", 0, 1, "a")])]
    assert long[0] == tokenizer().bos_token_id
    told = {}
    for name in ("never", "prompt_start"):
        job = write_job(tmp_path / name, groups=groups, max_length=len(long) - 5, epochs=1, truncate=name)
        metrics = VersionInfo.read(run(job, "a", Stop(), lambda _event: None)).metrics
        cut = [f["value"] for f in metrics["audit"] if f["name"] == "prompts cut at their beginning"]
        told[name] = (metrics["train"]["preferences"], metrics["left_out"].get("too long"), cut)
    cut_by = 5 + max(len(answer["ids"]) for answer in answers)
    assert told == {"never": (6, 1, []), "prompt_start": (7, None, [f"1 of 9, by {cut_by} tokens"])}
