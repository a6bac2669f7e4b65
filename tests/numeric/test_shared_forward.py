"""One row per prompt gives the log-probs of one row per completion, in every architecture we name."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.factories.models import ARCHITECTURES, VOCABULARY, random_model
from worker.models import old_names_of_peft
from worker.trainer import blocks, llama, recompute
from worker.trainer.errors import RefusedError
from worker.trainer.examples import Example
from worker.trainer.forward import Forward
from worker.trainer.packing import ForwardPath, Unit, build, plan
from worker.trainer.selfcheck import choose_path


def make_units(count: int = 7) -> list[Unit]:
    """Prompts of 3 to 30 tokens, 1 to 4 completions of 1 to 25: longer together than the tiny models' windows."""
    rng = random.Random(0)

    def ids(length: int) -> list[int]:
        return [rng.randrange(6, VOCABULARY) for _ in range(length)]

    return [
        Unit([1, *ids(rng.randrange(2, 30))], [ids(rng.randrange(1, 26)) for _ in range(rng.randrange(1, 5))])
        for _ in range(count)
    ]


def logps(forward: Forward, units: list[Unit], path: ForwardPath, tokens: int = 200) -> list[list[Tensor]]:
    """Per unit and completion, (tokens,), nats."""
    found: dict[int, list[Tensor]] = {}
    for made in plan(units, range(len(units)), path, tokens):
        batch = build(units, made, path)
        table = forward(batch).tokens
        for unit in made.units:
            first = batch.first_completion[unit]
            found[unit] = [table[first + k, : len(c)] for k, c in enumerate(units[unit].completions)]
    return [found[unit] for unit in range(len(units))]


def assert_equal(got: list[list[Tensor]], expected: list[list[Tensor]]) -> None:
    for one, other in zip(got, expected, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shared_and_plain_rows_give_the_models_own_log_probs(architecture: str) -> None:
    forward = Forward(random_model(architecture))
    units = make_units()
    expected = [[forward.from_full_logits(unit.prompt_ids, c) for c in unit.completions] for unit in units]
    with torch.no_grad():
        assert_equal(logps(forward, units, "shared"), expected)
        assert_equal(logps(forward, units, "plain"), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_those_of_plain_rows(architecture: str) -> None:
    """Of a sum that weighs every completion differently, in every parameter."""
    grads = []
    for path in ("shared", "plain"):
        model = random_model(architecture)
        total = sum(
            (k + 1) * tokens.sum()
            for unit in logps(Forward(model), make_units(4), path)
            for k, tokens in enumerate(unit)
        )
        total.backward()  # type: ignore[union-attr]
        grads.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_padding_neighbours_and_order_change_nothing() -> None:
    forward = Forward(random_model("llama"))
    units = make_units()
    with torch.no_grad():
        together = logps(forward, units, "shared", tokens=2000)
        alone = [logps(forward, [unit], "shared")[0] for unit in units]
        backwards = logps(forward, units[::-1], "shared", tokens=90)[::-1]
    assert_equal(alone, together)
    assert_equal(backwards, together)


def test_order_of_completions_changes_nothing() -> None:
    forward = Forward(random_model("qwen3"))
    unit = Unit([1, 7, 8], [[9, 10], [11], [12, 13, 14]])
    turned = Unit(unit.prompt_ids, unit.completions[::-1])
    with torch.no_grad():
        assert_equal(logps(forward, [turned], "shared"), [logps(forward, [unit], "shared")[0][::-1]])


class _Deaf(torch.nn.Module):
    """A decoder that heeds padding masks only, and drops position ids: group sharing cannot work with it."""

    def __init__(self, decoder: Any, *, refuses: bool) -> None:
        super().__init__()
        self.decoder, self.refuses = decoder, refuses

    def forward(self, *, attention_mask: Tensor, position_ids: Tensor, **others: Any) -> Any:
        if attention_mask.ndim == 4 and self.refuses:
            raise ValueError("attention_mask must have two dimensions")
        mask = attention_mask if attention_mask.ndim == 2 else None
        return self.decoder(attention_mask=mask, **others)


def examples(units: list[Unit]) -> list[Example]:
    return [Example(None, unit, []) for unit in units]  # type: ignore[arg-type]


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses the mask", "computes something else"])
def test_a_model_that_cannot_share_falls_back_with_a_warning(refuses: bool) -> None:
    forward = Forward(random_model("llama"))
    forward._decoder = _Deaf(forward._decoder, refuses=refuses)
    path, finding = choose_path(forward, examples(make_units()))
    assert path == "plain"
    assert finding.level == "warn"
    assert "slower" in finding.note


def test_a_model_that_shares_is_said_to() -> None:
    path, finding = choose_path(Forward(random_model("gemma3_text")), examples(make_units()))
    assert (path, finding.level) == ("tiles", "ok")


def test_a_model_whose_head_is_not_understood_is_refused() -> None:
    """Its own forward scales the logits by a rule the trainer does not know."""
    model = random_model("llama")
    model.lm_head.register_forward_hook(lambda _module, _args, output: output * 1.5)
    with pytest.raises(RefusedError, match="cannot be reproduced"):
        choose_path(Forward(model), examples(make_units()))


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kept", [0, 2_000, 1 << 26], ids=["made again", "kept in some layers", "kept"])
def test_tiles_are_plain_rows(
    monkeypatch: pytest.MonkeyPatch, architecture: str, autocast: torch.dtype | None, kept: int
) -> None:
    """Layers written out, and a last layer of predicting positions alone: values and gradients of transformers' own.

    In bf16 both round, so they may differ by what either differs from fp32.
    """
    monkeypatch.setattr(blocks, "KEPT_ELEMENTS", kept)
    found = {}
    for path in ("tiles", "plain"):
        model = random_model(architecture)
        forward = Forward(model, autocast=autocast)
        made = logps(forward, make_units(5), path)
        sum((k + 1) * tokens.sum() for unit in made for k, tokens in enumerate(unit)).backward()  # type: ignore[union-attr]
        found[path] = torch.cat([tokens for unit in made for tokens in unit]).detach(), dict(model.named_parameters())
    exact = autocast is None
    torch.testing.assert_close(found["tiles"][0], found["plain"][0], rtol=0, atol=1e-5 if exact else 0.03)
    for name, parameter in found["tiles"][1].items():
        theirs = found["plain"][1][name].grad
        share = 1e-5 if exact else 0.05
        torch.testing.assert_close(parameter.grad, theirs, rtol=0, atol=share * float(theirs.abs().max()), msg=name)


def test_the_last_layer_answers_for_predicting_positions_alone() -> None:
    """With a prompt of 200 tokens and two answers of 3, the last MLP sees 6 rows, not 206."""
    model = random_model("llama")
    forward, seen = Forward(model), []
    original = llama._Mlp.apply
    llama._Mlp.apply = lambda x, *others: seen.append(len(x)) or original(x, *others)  # type: ignore[method-assign]
    try:
        logps(forward, [Unit([1] * 200, [[7, 8, 9], [9, 8, 7]])], "tiles", tokens=300)
    finally:
        llama._Mlp.apply = original  # type: ignore[method-assign]
    assert seen == [206, 6]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_a_layer_that_is_computed_again_keeps_little(architecture: str) -> None:
    """Over the same groups: the same gradients, from less than half of the bytes kept for the backward pass."""
    kept, grads = [], []
    for again in (False, True):
        model, held = random_model(architecture), dict[int, int]()
        if again:
            recompute.use_in(model)

        def keep(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.data_ptr()] = tensor.nbytes
            return tensor

        weights = {parameter.data_ptr() for parameter in model.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            total = sum(tokens.sum() for unit in logps(Forward(model), make_units(3), "tiles") for tokens in unit)
        total.backward()  # type: ignore[union-attr]
        kept.append(sum(nbytes for place, nbytes in held.items() if place not in weights))
        grads.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *grads))
    assert kept[1] < kept[0] / 2


def test_a_model_without_layers_to_compute_again_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"gradient_checkpointing: .* leave the setting out"):
        recompute.use_in(torch.nn.Linear(2, 2))


def test_tiles_with_an_adapter_take_the_models_own_way() -> None:
    """LoRA's layers are not plain ones: values and the adapter's gradients are those of plain rows."""
    from peft import LoraConfig, get_peft_model

    grads = []
    for path in ("tiles", "plain"):
        model = random_model("llama")
        Forward(model)  # the reference was computed with the bare model before
        torch.manual_seed(0)
        with old_names_of_peft():
            wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"]))
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        total = sum(
            (k + 1) * t.sum() for unit in logps(Forward(wrapped), make_units(4), path) for k, t in enumerate(unit)
        )
        total.backward()  # type: ignore[union-attr]
        grads.append([p.grad for p in wrapped.parameters() if p.requires_grad])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("path", ["tiles", "shared"])
def test_bfloat16_neighbours_and_order_change_nothing_beyond_its_noise(path: ForwardPath) -> None:
    """A token's log-prob among neighbours is that of the token alone, up to what bf16 loses against fp32 anyway."""
    model, units = random_model("llama"), make_units()
    forward = Forward(model, autocast=torch.bfloat16)
    with torch.no_grad():
        exact = logps(Forward(model), units, path)
        together = logps(forward, units, path, tokens=2000)
        alone = [logps(forward, [unit], path)[0] for unit in units]
        backwards = logps(forward, units[::-1], path, tokens=90)[::-1]

    def worst(one: list[list[Tensor]], other: list[list[Tensor]]) -> float:
        return max(
            float((a - b).abs().max())
            for us, them in zip(one, other, strict=True)
            for a, b in zip(us, them, strict=True)
        )

    noise = worst(together, exact)
    assert 0 < noise < 0.1
    assert worst(alone, together) <= 2 * noise
    assert worst(backwards, together) <= 2 * noise
