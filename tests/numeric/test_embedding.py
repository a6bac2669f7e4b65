"""The embedding that adds its gradient to the one that is there, against PyTorch's own."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.factories.models import random_model
from worker.trainer import embedding

PASSES = (torch.tensor([[5, 7, 7, 0, 3]]), torch.tensor([[7, 0, 9]]))
"""Ids that repeat within a pass and between passes; 0 is the padding."""


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Of a sum of logits' squares over two passes, whose gradients add up."""
    for ids in PASSES:
        model(input_ids=ids).logits.square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_of_two_passes_are_those_of_pytorch(tied: bool) -> None:
    model = random_model("llama", tie_word_embeddings=tied).double()
    ours = copy.deepcopy(model)
    embedding.use_in(ours)
    assert type(ours.get_input_embeddings()) is embedding.Embedding
    expected, found = gradients(model), gradients(ours)
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-10, atol=1e-10)
    rows = found["model.embed_tokens.weight"]
    assert bool(rows[7].any())
    assert tied or not bool(rows[0].any()), "the padding learns nothing from being looked up"


def test_a_frozen_embedding_gets_no_gradient() -> None:
    model = random_model("llama", tie_word_embeddings=False)
    embedding.use_in(model)
    model.get_input_embeddings().weight.requires_grad_(False)
    assert "model.embed_tokens.weight" not in gradients(model)


def test_without_gradients_nothing_is_kept_and_nothing_else_changes() -> None:
    model = random_model("llama")
    with torch.no_grad():
        expected = model(input_ids=PASSES[0]).logits
        embedding.use_in(model)
        found = model(input_ids=PASSES[0]).logits
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_an_embedding_that_does_more_than_look_up_is_left_alone() -> None:
    model = random_model("gemma3_text")  # scales what it looks up
    own = type(model.get_input_embeddings())
    embedding.use_in(model)
    assert type(model.get_input_embeddings()) is own
