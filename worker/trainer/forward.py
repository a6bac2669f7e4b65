"""Completion log-probs under a model: hidden states of a batch, then the head on the positions that matter."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from app.rounds.spec import TrainingSettings
from worker.trainer import blocks, compiling, embedding, flex, gemm, llama, masks, recompute
from worker.trainer.logprobs import Head, token_collisions, token_logps
from worker.trainer.packing import FLEX_BLOCK, Batch, ForwardPath
from worker.trainer.recording import Recorder


@dataclass(frozen=True, slots=True)
class CompletionLogps:
    """Log-probs of a batch's completions, on the CPU. C completions, L tokens in the longest.

    Losses and figures are a hundred operators on these few numbers: a GPU would wait for the launch of each.
    """

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

    def __init__(self, model: Any, *, autocast: torch.dtype | None = None, compiled: bool = False) -> None:
        self.model = model
        self.device = torch.device(next(model.parameters()).device)
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.flex = causal.config._attn_implementation == flex.NAME  # noqa: SLF001 - the only place it is kept
        """Shared rows through FlexAttention, which the model was loaded with."""
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
        self._recorder = self._make_recorder() if self.flex else None
        self.compiled = False
        """Whether layers are compiled."""
        if compiled:
            self.compile_layers()

    @property
    def paths(self) -> tuple[ForwardPath, ...]:
        """Ways to run this model, the fastest first; ``selfcheck.choose_path`` finds the first that is right."""
        return ("tiles", "shared", "plain") if self.device.type == "cpu" else ("shared", "plain")

    def row_length(self, settings: TrainingSettings) -> int | None:
        """Tokens that rows are filled up to where the attention skips what is hidden; None: as short as can be."""
        return -(-settings.tokens_per_row // FLEX_BLOCK) * FLEX_BLOCK if self.flex else None

    def compile_layers(self) -> None:
        """Let PyTorch compile the layers, on a GPU; the model's other users meet them compiled, too."""
        if self.flex and not self.compiled:
            compiling.use_in(self.model)
            self.compiled = True

    @property
    def holds_gradients(self) -> bool:
        """Whether gradients are to be zeroed where they are, as recorded passes add to them."""
        return self._recorder is not None and self._recorder.holds_gradients

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of every forward pass: bf16 products over fp32 weights, or nothing."""
        enabled = self.autocast_dtype is not None
        return torch.autocast(self.device.type, dtype=self.autocast_dtype or torch.bfloat16, enabled=enabled)

    def __call__(self, batch: Batch, *, collisions: bool = False) -> CompletionLogps:
        """Log-probs of every completion of ``batch``, with gradients where grad mode is on."""
        flat, flat_collisions = self._by_token(batch.to(self.device), collisions=collisions)
        return CompletionLogps(
            _by_completion(batch, flat.cpu()),
            None if flat_collisions is None else _by_completion(batch, flat_collisions.cpu()),
        )

    def _by_token(self, batch: Batch, *, collisions: bool) -> tuple[Tensor, Tensor | None]:
        """(N,) each, on the model's device: log-probs of the completion tokens, and what they are collisions of."""
        with self.autocast():
            hidden, mask = self._hidden(batch)
            # index_select, whose gradient is summed in a fixed order on a CPU; that of indexing is not.
            predicting = hidden.reshape(-1, hidden.shape[-1])
            if not blocks.gave_predicting(mask):
                predicting = predicting.index_select(0, batch.predicted_from)
            flat = token_logps(predicting, batch.targets, self._head)
            return flat, token_collisions(predicting, self._head) if collisions else None

    def _hidden(self, batch: Batch) -> tuple[Tensor, Any]:
        """(B, T, D), the last hidden states, and the mask they were made under, where one was given."""
        if self._recorder is not None and batch.path == "shared":
            played = self._recorder(batch)
            if played is not None:
                return played, None
        if batch.path == "plain":
            mask: Any = masks.padding(batch)
        else:
            mask = masks.for_model(batch, self._config, flex=self.flex)
        return self._decode(batch.ids, batch.positions, mask), mask

    def _decode(self, ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        hidden: Tensor = self._decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return hidden

    def _make_recorder(self) -> Recorder | None:
        layers = recompute.layers(self.model)
        quantized = getattr(self._config, "quantization_config", None) is not None
        if quantized or not layers or any(layer.gradient_checkpointing for layer in layers):
            return None

        def decode(ids: Tensor, positions: Tensor, spans: Tensor) -> Tensor:
            # What autocast keeps of weights would be left in the recording's memory.
            dtype = self.autocast_dtype
            with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False):
                return self._decode(ids, positions, masks.blocks_for_model(spans, positions, self._config))

        def parameters() -> list[nn.Parameter]:
            return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

        return Recorder(decode, parameters, sum(p.numel() for p in layers[0].parameters()))

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
