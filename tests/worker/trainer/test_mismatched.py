"""Which answers to other prompts KTO's point of reference is measured on."""

from collections import Counter
from dataclasses import replace

from app.rounds.spec import TrainingSettings
from tests.factories.jobs import completion, encode_prompt, group, make_groups, preference
from worker.trainer.data import parse_group
from worker.trainer.examples import select
from worker.trainer.loss_checks import loss_findings
from worker.trainer.mismatched import mismatched_units
from worker.trainer.parts import by_judgements


def test_mismatched_answers_are_good_and_bad_alike_in_any_order_of_rows() -> None:
    """One for every judged answer, of another prompt; every row turned about gives the same ones."""
    groups = make_groups(200, 0)
    turned = [
        item
        | {
            "completions": item["completions"][::-1],
            "preferences": [p | {"outcome": {"a": "b", "b": "a"}[p["outcome"]]} for p in item["preferences"]],
        }
        for item in groups[::-1]
    ]
    found = []
    for rows in (groups, turned):
        examples = select([parse_group(row) for row in rows], "kto", 256).train
        good = Counter(
            tuple(e.unit.completions[label.completion]) for e in examples for label in e.labels if label.desirable
        )
        units = mismatched_units(examples, 256)
        assert len(units) == 200
        for index, unit in units.items():
            assert unit.prompt_ids == examples[index].unit.prompt_ids
            assert len(unit.completions) == len(examples[index].labels)
        found.append({(tuple(u.prompt_ids), tuple(sorted(map(tuple, u.completions)))) for u in units.values()})
        share = sum(tuple(c) in good for unit in units.values() for c in unit.completions) / 400
        assert 0.4 < share < 0.6
    assert found[0] == found[1]


def test_groups_are_counted_and_not_their_parts() -> None:
    """With twelve choices and four judgements a step, each of the two groups is several examples."""
    settings = TrainingSettings.from_dict({"loss": "kto", "pairs_per_step": 4})
    groups = [
        group(
            name,
            "train",
            encode_prompt(f"{name} tea"),
            [completion(f"{name}{k}", f"{name} boat {k}") for k in range(24)],
            [preference(f"{name}{k}", 2 * k, 2 * k + 1, "a") for k in range(12)],
        )
        for name in ("lamp", "walk")
    ]
    whole = select([parse_group(row) for row in groups], "kto", 256)
    parts = replace(whole, train=by_judgements(whole.train, settings.pairs_per_step))
    assert len(parts.train) > 2
    found = {f.name: f.value for f in loss_findings(parts, settings, mismatched_units(parts.train, 256))}
    assert found["KTO's point of reference"] == "2 of 2 groups have an answer to another prompt"
