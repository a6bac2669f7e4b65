"""The mask of a shared row, token by token, and its dense and block forms against each other."""

import random

import pytest
import torch

from worker.trainer.flex import flex_attention_forward
from worker.trainer.masks import block, dense, mask_function, padding, windows
from worker.trainer.packing import Batch, Plan, Unit, build, plan

UNITS = [Unit([5, 6], [[7], [8, 9]]), Unit([10], [[11, 12]])]


def batch(length: int = 9) -> Batch:
    """One row: p p a b b | p c c and one padding token."""
    return build(UNITS, Plan([[0, 1]], length), "shared")


def test_layout_by_hand() -> None:
    """Two groups in one row of nine: prompt 5 6 with completions 7 and 8 9, prompt 10 with 11 12, one padding.

    The first token of each completion is predicted from its prompt's last position: 7 and 8 from place 1, 11 from
    place 5; the others from the token before: 9 from place 3, 12 from place 6.
    """
    made = batch()
    assert made.ids.tolist() == [[5, 6, 7, 8, 9, 10, 11, 12, 0]]
    assert made.positions.tolist() == [[0, 1, 2, 2, 3, 0, 1, 2, 0]]
    assert made.predicted_from.tolist() == [1, 1, 3, 5, 6]
    assert made.targets.tolist() == [7, 8, 9, 11, 12]
    assert made.lengths.tolist() == [1, 2, 2]
    assert made.first_completion == {0: 0, 1: 2}
    assert made.tokens == 8


def test_who_sees_whom_by_hand() -> None:
    """Rows look, columns are looked at: p p a b b p c c and padding."""
    expected = [
        "x........",
        "xx.......",
        "xxx......",
        "xx.x.....",
        "xx.xx....",
        ".....x...",
        ".....xx..",
        ".....xxx.",
        "........x",
    ]
    seen = dense(batch())[0, 0]
    assert ["".join("x" if bit else "." for bit in row) for row in seen.tolist()] == expected


def test_a_window_counts_positions_not_places() -> None:
    """With a window of two, b (places 3 and 4) sees p at position 1 from position 2, though a lies between them."""
    seen = dense(batch(), window=2)[0, 0]
    assert seen[3].nonzero().flatten().tolist() == [1, 3]
    assert seen[4].nonzero().flatten().tolist() == [3, 4]


@pytest.mark.parametrize("window", [None, 2])
def test_block_rule_is_the_dense_rule(window: int | None) -> None:
    from torch.nn.attention.flex_attention import create_mask

    made = batch()
    T = made.ids.shape[1]
    assert torch.equal(create_mask(mask_function(made, window), 1, 1, T, T, device="cpu"), dense(made, window))


PARTS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
PARTS_OF_KEYS = ("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices")


@pytest.mark.parametrize("window", [None, 70])
@pytest.mark.parametrize("at_once", [1, 1 << 26])
def test_blocks_are_those_that_flex_attention_finds_by_itself(
    window: int | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention.flex_attention import create_block_mask

    monkeypatch.setattr("worker.trainer.masks.SCORES_AT_ONCE", at_once)
    rng = random.Random(0)
    units = [
        Unit([1] * rng.randrange(2, 300), [[2] * rng.randrange(1, 200) for _ in range(rng.randrange(1, 5))])
        for _ in range(12)
    ]
    for made in plan(units, range(12), "shared", 4096, 2048):
        batch = build(units, made, "shared")
        B, T = batch.ids.shape
        assert T % 128 == 0
        found = block(batch.spans, batch.positions, window)
        expected = create_block_mask(mask_function(batch, window), B, None, T, T, device="cpu")
        for name in PARTS + PARTS_OF_KEYS:
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert found.seq_lengths == (T, T)


@pytest.mark.parametrize("window", [None, 1, 4])
def test_the_rule_token_by_token(window: int | None) -> None:
    """A token sees those of its prompt and of its own completion that are not ahead of it, within the window."""
    rng = random.Random(1)
    units = [
        Unit([1] * rng.randrange(1, 8), [[2] * rng.randrange(1, 6) for _ in range(rng.randrange(1, 4))])
        for _ in range(4)
    ]
    for made in plan(units, range(4), "shared", 80, 40):
        batch = build(units, made, "shared")
        for row, members in enumerate(made.rows):
            tokens = []  # group, completion (0: the prompt), position
            for unit in members:
                P = len(units[unit].prompt_ids)
                tokens += [(unit, 0, p) for p in range(P)]
                for k, completion in enumerate(units[unit].completions, start=1):
                    tokens += [(unit, k, P + t) for t in range(len(completion))]
            seen = dense(batch, window)[row, 0]
            for q, (group, own, at) in enumerate(tokens):
                wanted = [
                    k
                    for k, (other, part, place) in enumerate(tokens)
                    if other == group and part in (0, own) and place <= at and (window is None or at - place < window)
                ]
                assert seen[q].nonzero().flatten().tolist() == wanted
            for q in range(len(tokens), batch.ids.shape[1]):
                assert seen[q].nonzero().flatten().tolist() == [q]


@pytest.mark.parametrize("softcap", [None, 5.0])
# Compiled, this runs on a GPU only; uncompiled it computes the same on a CPU and says that it is slow.
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_flex_attention_is_masked_attention_with_shared_heads(softcap: float | None) -> None:
    made = batch(128)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 128, 16, generator=generator) for heads in (4, 2, 2))
    mask = block(made.spans, made.positions)
    got, _ = flex_attention_forward(None, query, key, value, mask, scaling=0.2, softcap=softcap)
    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.2
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~dense(made), float("-inf")).softmax(-1)
    expected = (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(got, expected)


def test_plain_rows_are_one_completion_each() -> None:
    (made,) = plan(UNITS, [0, 1], "plain", 100)
    rows = build(UNITS, made, "plain")
    assert rows.ids.tolist() == [[5, 6, 8, 9], [10, 11, 12, 0], [5, 6, 7, 0]] or rows.ids.tolist() == [
        [5, 6, 7, 0],
        [5, 6, 8, 9],
        [10, 11, 12, 0],
    ]
    assert padding(rows).sum(1).tolist() == [len([t for t in row if t]) for row in rows.ids.tolist()]


class Config:
    """A model configuration with what masks look at."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)


def test_windows_of_model_configurations() -> None:
    both = ["sliding_attention", "full_attention"]
    assert windows(Config()) is None
    assert windows(Config(sliding_window=8)) == 8
    assert windows(Config(sliding_window=8, use_sliding_window=False)) is None
    assert windows(Config(sliding_window=8, layer_types=["full_attention"])) is None
    assert windows(Config(sliding_window=8, layer_types=both)) == {"full_attention": None, "sliding_attention": 8}
    with pytest.raises(ValueError, match="linear_attention"):
        windows(Config(layer_types=["linear_attention"]))
