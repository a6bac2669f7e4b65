"""Attention in tiles against attention under a dense mask of the same rule, values and gradients."""

import math
import random

import pytest
import torch
from torch import Tensor

from worker.trainer import blocks, gemm, masks
from worker.trainer.blocks import Layout, attend, carrier
from worker.trainer.packing import Batch, Plan, Unit, build


def batch_of(groups: list[tuple[int, list[int]]]) -> Batch:
    """A pass of groups with that many tokens of prompt, and of each completion."""
    units = [Unit([7] * prompt, [[8] * length for length in completions]) for prompt, completions in groups]
    return build(units, Plan([list(range(len(units)))], sum(unit.shared_length for unit in units)), "tiles")


GROUPS = [(9, [4, 1, 6]), (1, [1]), (23, [2, 17, 3, 3]), (5, [30])]


@pytest.mark.parametrize("tile", [3, 8, 256])
@pytest.mark.parametrize("window", [None, 1, 7, 20])
@pytest.mark.parametrize("large", [1, 1 << 30], ids=["head by head", "all heads"])
@pytest.mark.parametrize("kept", [0, 1 << 26], ids=["made again", "kept"])
def test_tiles_are_the_dense_mask(
    monkeypatch: pytest.MonkeyPatch, tile: int, window: int | None, large: int, kept: int
) -> None:
    monkeypatch.setattr(blocks, "TILE", tile)
    monkeypatch.setattr(blocks, "LARGE_PRODUCT", large)
    monkeypatch.setattr(blocks, "KEPT_ELEMENTS", kept)
    batch = batch_of(GROUPS)
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, batch.ids.shape[1], 8) for heads in (4, 2, 2)]
    ours = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    got, _ = attend(None, *ours, carrier(batch, window))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *theirs, attn_mask=masks.dense(batch, window), enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(got.shape, generator=generator)
    got.backward(upstream)
    expected.backward(upstream)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_gradcheck() -> None:
    mask = carrier(batch_of([(3, [2, 1])]))
    q, k, v = (torch.randn(1, heads, 6, 3, dtype=torch.float64, requires_grad=True) for heads in (2, 1, 1))

    def output(*inputs: Tensor) -> Tensor:
        return attend(None, *inputs, mask)[0]

    assert torch.autograd.gradcheck(output, (q, k, v))


def test_no_tile_holds_more_scores_than_its_queries_need() -> None:
    """A prompt of 4,096 tokens has no 4,096² mask: its tiles' masks are squares of a tile."""
    layout = Layout([(4096, [40, 40])])
    assert sum(tile.bias.numel() for tile in layout.tiles) <= 17 * blocks.TILE**2
    assert max(tile.keys for tile in layout.tiles) == 4096 + 80
    assert sum(tile.stop - tile.start for tile in layout.tiles) == 4096 + 80


def test_weights_are_kept_for_as_many_layers_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of 4 tokens with answers of 2 and 3: 4 · 4 weights, and 5 · 9 more, of each of 2 heads."""
    layout = Layout([(4, [2, 3])])
    monkeypatch.setattr(blocks, "KEPT_ELEMENTS", 300)
    assert [layout.keeps(2) for _ in range(3)] == [True, True, False]
    assert layout.keeps(0)  # what no longer fits has taken nothing


def test_a_pass_without_gradients_keeps_none() -> None:
    mask = carrier(batch_of([(3, [2, 1])]))
    q, k, v = (torch.randn(1, heads, 6, 4, requires_grad=True) for heads in (2, 1, 1))
    with torch.no_grad():
        attend(None, q, k, v, mask)
    assert mask.layout_of_groups._kept == 0  # type: ignore[attr-defined]
    attend(None, q, k, v, mask)
    assert mask.layout_of_groups._kept == 2 * (3 * 3 + 3 * 6)  # type: ignore[attr-defined]


def test_what_tiles_have_not_is_refused() -> None:
    q = torch.zeros(1, 1, 3, 4)
    with pytest.raises(ValueError, match="softcap"):
        attend(None, q, q, q, carrier(batch_of([(2, [1])])), softcap=30.0)


@pytest.fixture(params=["oneDNN", "PyTorch"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose products are used, whatever this CPU would choose; PyTorch's for both where it cannot do otherwise."""
    name: str = request.param
    monkeypatch.setattr(gemm, "available", gemm.works if name == "oneDNN" else lambda: False)
    return name


@pytest.mark.parametrize(
    ("maker", "fits"), [("vendor_id\t: AuthenticAMD\n", True), ("vendor_id\t: GenuineIntel\n", False)]
)
def test_onednn_makes_the_products_of_cpus_that_mkl_does_not_fill(
    maker: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemm, "_maker", lambda: maker)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert gemm.available.__wrapped__() is (fits and gemm.works())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_through_onednn(bias: bool) -> None:
    """Values and gradients of nn.Linear."""
    torch.manual_seed(0)
    plain = torch.nn.Linear(33, 17, bias=bias)
    model = torch.nn.Sequential(torch.nn.Linear(33, 17, bias=bias))
    model[0].load_state_dict(plain.state_dict())
    gemm.use_in(model)
    x = torch.randn(2, 5, 33, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    upstream = torch.randn(2, 5, 17)
    got, expected = model(x), plain(y)
    torch.testing.assert_close(got, expected)
    got.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(x.grad, y.grad)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.usefixtures("library")
def test_products_of_strided_matrices() -> None:
    rng = random.Random(0)
    wide = torch.tensor([[rng.random() for _ in range(40)] for _ in range(20)])
    for a in (wide, wide[:, 3:11], wide[::2, :8], wide.t()[:8].t()):
        for b in (wide[:, 5:13].t(), wide[:, :8].t().contiguous(), wide[::3, ::5].t()):
            if a.shape[1] == b.shape[0]:
                torch.testing.assert_close(gemm.matmul(a, b), (a.double() @ b.double()).float())
    assert math.isfinite(float(gemm.matmul(wide, wide.t()).sum()))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("n", "m", "k"), [(9, 40, 7), (9, 7, 40), (200, 40, 8), (1, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_gradients_of_weights_whichever_operand_is_transposed(n: int, m: int, k: int, dtype: torch.dtype) -> None:
    a, b = (torch.linspace(-1, 1, n * width).sin().view(n, width).to(dtype) for width in (m, k))
    got = gemm.outer(a, b)
    assert got.is_contiguous()
    torch.testing.assert_close(got, (a.double().t() @ b.double()).to(dtype))
    torch.testing.assert_close(gemm.across(a.t(), b.t()), got)
