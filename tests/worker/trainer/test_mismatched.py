"""Which answers to other prompts KTO's point of reference is measured on."""

from collections import Counter

from tests.factories.jobs import make_groups
from worker.trainer.data import parse_group
from worker.trainer.examples import select
from worker.trainer.mismatched import mismatched_units


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
