"""What makes a step and what makes a pass: groups of very many judgements, rankings, usual ones."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.rounds.spec import TrainingSettings
from app.versions.manifest import VersionInfo
from bench.workloads import WORKLOADS, settings_for
from bench.workloads import make_groups as workload_groups
from tests.factories.jobs import completion, encode_prompt, group, preference, write_job
from tests.factories.models import WORDS
from tests.worker.trainer.running import events
from worker.trainer.data import Group, parse_group
from worker.trainer.examples import Example, select
from worker.trainer.job import run
from worker.trainer.lifetime import Stop
from worker.trainer.order import steps
from worker.trainer.parts import by_judgements, by_tokens


def one_prompt(pairs: int) -> dict[str, Any]:
    """Pairs of one prompt, each of two answers of its own."""
    rng = random.Random(3)
    answers = [completion(f"c{k}", " ".join(rng.choices(WORDS, k=4)) + f" {k}") for k in range(2 * pairs)]
    preferences = [preference(f"p{k}", 2 * k, 2 * k + 1, "a", weight=1.0 + k % 3) for k in range(pairs)]
    return group("g", "train", encode_prompt("write tea"), answers, preferences)


def ranking(name: str, tiers: list[list[int]], answers: int = 8) -> dict[str, Any]:
    made = [completion(f"{name}c{k}", f"{WORDS[k]} {name}") for k in range(answers)]
    return group(name, "train", encode_prompt(name), made, []) | {"rankings": [{"tiers": tiers, "weight": 1.0}]}


def parsed(groups: list[dict[str, Any]]) -> list[Group]:
    return [parse_group(item) for item in groups]


def judged(examples: list[Example]) -> Counter[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Every pair by its tokens."""
    return Counter(
        (tuple(e.unit.completions[pair.chosen]), tuple(e.unit.completions[pair.rejected]), pair.weight)
        for e in examples
        for pair in e.pairs
    )


def test_many_pairs_of_one_prompt_make_many_steps() -> None:
    whole = select(parsed([one_prompt(50)]), "sigmoid", 256).train
    parts = by_judgements(whole, 8)
    settings = TrainingSettings.from_dict({"pairs_per_step": 8})
    assert sorted(sum(parts[i].size for i in step) for step in steps(parts, settings)) == [2, 8, 8, 8, 8, 8, 8]
    assert judged(parts) == judged(whole)


def test_a_pass_is_bounded_and_a_step_is_not_changed_by_that() -> None:
    parts = by_judgements(select(parsed([one_prompt(50)]), "sigmoid", 256).train, 8)
    settings = TrainingSettings.from_dict({"pairs_per_step": 8})
    by_path = {path: by_tokens(parts, 64, path) for path in ("shared", "plain")}  # type: ignore[arg-type]
    assert max(piece.unit.shared_length for piece in by_path["shared"]) <= 64
    assert max(piece.unit.plain_length * len(piece.unit.completions) for piece in by_path["plain"]) <= 64
    for pieces in by_path.values():
        assert len(pieces) > len(parts)
        made = [judged([pieces[i] for i in step]) for step in steps(pieces, settings)]
        assert made == [judged([parts[i] for i in step]) for step in steps(parts, settings)]


def test_pairs_that_share_answers_stay_together() -> None:
    """Two cliques of four answers, told turn by turn, in two parts of six pairs: each has one clique."""
    cliques = [[0, 1, 2, 3], [4, 5, 6, 7]]
    edges = [(clique[a], clique[b]) for a in range(4) for b in range(a + 1, 4) for clique in cliques]
    made = group(
        "g",
        "train",
        encode_prompt("tea"),
        [completion(f"c{k}", WORDS[k]) for k in range(8)],
        [preference(f"p{a}{b}", a, b, "a") for a, b in edges],
    )
    (whole,) = select(parsed([made]), "sigmoid", 256).train
    assert [len(part.unit.completions) for part in by_judgements([whole], 6)] == [4, 4]
    assert by_judgements([whole], 12) == [whole], "what fits is left as it is"


@pytest.mark.parametrize("loss", ["sigmoid", "plackett_luce"])
def test_a_ranking_is_one_judgement_and_never_cut(loss: str) -> None:
    """Seven ranked answers imply 21 pairs, and count as much as one choice does."""
    choices = [one_prompt(1) | {"id": f"choice{k}"} for k in range(3)]
    groups = [*choices, *(ranking(f"r{k}", [[i] for i in range(7)]) for k in range(3))]
    examples = select(parsed(groups), loss, 256).train
    assert [example.size for example in examples] == [1] * 6
    assert by_tokens(by_judgements(examples, 1), 16, "shared") == examples
    settings = TrainingSettings.from_dict({"pairs_per_step": 3})
    assert [len(step) for step in steps(examples, settings)] == [3, 3]


def test_both_answers_of_a_choice_stay_together_for_kto() -> None:
    (whole,) = select(parsed([one_prompt(6)]), "kto", 256).train
    assert whole.size == 12
    assert [(len(part.labels), len(part.pairs)) for part in by_judgements([whole], 4)] == [(4, 2)] * 3


@pytest.mark.parametrize("name", ["single", "group", "long-group"])
def test_usual_groups_are_left_whole(name: str) -> None:
    workload = WORKLOADS[name]
    settings = settings_for(workload, bfloat16=False, learning_rate=1e-5)
    examples = select(workload_groups(workload, 24, 512), settings.loss, 1 << 20).train
    assert by_tokens(by_judgements(examples, settings.pairs_per_step), settings.tokens_per_row, "shared") == examples


def test_cutting_a_prompt_into_passes_changes_no_weights(tmp_path: Path) -> None:
    """Ten judgements a step of one prompt, in one pass or in many; weights count as before."""
    made = {}
    for tokens in (4096, 40):
        job = tmp_path / str(tokens)
        write_job(job, groups=[one_prompt(20)], pairs_per_step=10, tokens_per_row=tokens, learning_rate=1e-3)
        version = run(job, "a", Stop(), lambda _event: None)
        made[tokens] = load_file(version / "adapter_model.safetensors")
        metrics = VersionInfo.read(version).metrics
        assert (metrics["train"]["groups"], metrics["train"]["preferences"], metrics["train"]["steps"]) == (1, 20, 4)
        assert [event["pairs"] for event in events(job, "train")] == [10] * 4
    for name, tensor in made[4096].items():
        assert torch.allclose(tensor, made[40][name], atol=2e-6), name
