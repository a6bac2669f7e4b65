"""Plans cover every unit once and keep to the budget, whatever the lengths."""

from hypothesis import given
from hypothesis import strategies as st

from worker.trainer.packing import FLEX_BLOCK, ForwardPath, Unit, build, plan

units = st.builds(
    Unit,
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=4),
)


@given(
    st.lists(units, min_size=1, max_size=12),
    st.integers(1, 120),
    st.sampled_from(["shared", "plain"]),
    st.one_of(st.none(), st.just(64)),
)
def test_every_unit_once_and_within_the_budget(
    made: list[Unit], tokens: int, path: ForwardPath, row_length: int | None
) -> None:
    plans = plan(made, range(len(made)), path, tokens, row_length)
    assert sorted(unit for one in plans for unit in one.units) == list(range(len(made)))
    for one in plans:
        batch = build(made, one, path)
        alone = len(one.units) == 1
        assert batch.ids.numel() <= tokens or alone or len(one.rows) == 1
        if path == "shared" and row_length is not None:
            fullest = max(sum(made[unit].shared_length for unit in row) for row in one.rows)
            assert fullest <= one.length < fullest + FLEX_BLOCK
            assert one.length % FLEX_BLOCK == 0
        total = sum(made[unit].shared_length if path == "shared" else made[unit].plain_total for unit in one.units)
        assert batch.tokens == total
        for unit in one.units:
            for k, completion in enumerate(made[unit].completions):
                place = batch.first_completion[unit] + k
                first = int(batch.lengths[:place].sum())
                assert batch.targets[first : first + len(completion)].tolist() == completion
