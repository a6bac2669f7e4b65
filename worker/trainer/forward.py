"""Completion log-probs under a model: hidden states of a batch, then the head on the positions that matter."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from app.rounds.spec import TrainingSettings
from worker.trainer import blocks, embedding, gemm, llama, masks
from worker.trainer.logprobs import Head, token_collisions, token_logps
from worker.trainer.masks import FLEX_BLOCK
from worker.trainer.packing import Batch, ForwardPath


@dataclass(frozen=True, slots=True)
class CompletionLogps:
    """Log-probs of a batch's completions. C completions, L tokens in the longest."""

    tokens: Tensor
    """(C, L), nats, fp32; 0 beyond a completion's end."""
    collisions: Tensor | None = None
    """(C, L), nats: log Σ_v p(v)² at every token, without gradient; 0 beyond the end; where asked for."""

    @property
    def sums(self) -> Tensor:
        """(C,), nats: summed over completion tokens, end token included."""
        return self.tokens.sum(1)


class Forward:
    """A causal language model as the trainer uses it; ``model`` may be wrapped by PEFT."""

    def __init__(self, model: Any, *, autocast: torch.dtype | None = None) -> None:
        self.model = model
        self.device = torch.device(next(model.parameters()).device)
        self.flex = self.device.type == "cuda"
        """Shared rows through FlexAttention; the model was loaded with that attention then."""
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._config = causal.config
        self._decoder = causal.base_model
        self._head = Head.of(causal)
        if self.device.type == "cpu":
            gemm.use_in(model)
            if causal.config._attn_implementation == "sdpa":  # noqa: SLF001 - the only place it is kept
                causal.set_attn_implementation(blocks.register())
            llama.use_in(self._decoder)
            embedding.use_in(causal)
        self.autocast_dtype = autocast
        """bfloat16, or None for fp32 throughout."""

    @property
    def paths(self) -> tuple[ForwardPath, ...]:
        """Ways to run this model, the fastest first; ``selfcheck.choose_path`` finds the first that is right."""
        return ("tiles", "shared", "plain") if self.device.type == "cpu" else ("shared", "plain")

    def row_length(self, settings: TrainingSettings) -> int | None:
        """Tokens of every row where the attention wants one fixed length; None: as short as the groups allow."""
        return -(-settings.tokens_per_row // FLEX_BLOCK) * FLEX_BLOCK if self.flex else None

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of every forward pass: bf16 products over fp32 weights, or nothing."""
        enabled = self.autocast_dtype is not None
        return torch.autocast(self.device.type, dtype=self.autocast_dtype or torch.bfloat16, enabled=enabled)

    def __call__(self, batch: Batch, *, collisions: bool = False) -> CompletionLogps:
        """Log-probs of every completion of ``batch``, with gradients where grad mode is on."""
        batch = batch.to(self.device)
        if batch.path == "plain":
            mask: Any = masks.padding(batch)
        else:
            mask = masks.for_model(batch, self._config, flex=self.flex)
        with self.autocast():
            hidden = self._decoder(
                input_ids=batch.ids, attention_mask=mask, position_ids=batch.positions, use_cache=False
            ).last_hidden_state
            # index_select, whose gradient is summed in a fixed order on a CPU; that of indexing is not.
            predicting = hidden.reshape(-1, hidden.shape[-1])
            if not blocks.gave_predicting(mask):
                predicting = predicting.index_select(0, batch.predicted_from)
            flat = token_logps(predicting, batch.targets, self._head)
            flat_collisions = token_collisions(predicting, self._head) if collisions else None
        return CompletionLogps(
            _by_completion(batch, flat), None if flat_collisions is None else _by_completion(batch, flat_collisions)
        )

    @torch.no_grad()
    def from_full_logits(self, prompt_ids: list[int], completion_ids: list[int]) -> Tensor:
        """(L,), nats: the same for one completion by the model's own whole forward; the yardstick of the others."""
        ids = torch.tensor([prompt_ids + completion_ids], device=self.device)
        with self.autocast():
            logits: Tensor = self.model(input_ids=ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1].float()
        targets = ids[0, len(prompt_ids) :]
        return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)


def _by_completion(batch: Batch, flat: Tensor) -> Tensor:
    """(C, L) out of (N,): 0 beyond a completion's end."""
    table = flat.new_zeros(len(batch.lengths) * batch.longest).index_copy(0, batch.slots, flat)
    return table.view(len(batch.lengths), batch.longest)
