"""A lane: one loaded model and the samples running on it. Lanes are driven by the scheduler's thread alone."""

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from worker.engine.sampling import token_logprobs
from worker.engine.work import Group, Sample, TokenLogprob

CHUNK_TOKENS = 512
"""Longer prompts are computed in pieces of this many tokens, so that running completions go on in between."""


class Lane(Protocol):
    """What the scheduler asks of a model's lane."""

    waiting: deque[Group]

    @property
    def running(self) -> int:
        """Samples that hold memory."""

    @property
    def memory_bytes(self) -> int:
        """Bytes of KV memory held now."""

    def step(self) -> None:
        """Start what can be started, and draw one token for every running sample."""

    def sweep(self) -> None:
        """Let go of groups whose request was cancelled or closed."""

    def clear(self) -> list[Group]:
        """Let go of everything; returns the groups that were waiting or running."""


class LogitsTap:
    """Has the output layer computed at chosen positions only.

    Models project every position to the vocabulary, or the last; prompts of different lengths in one batch need
    their own last ones. A hook before the output layer picks them, whatever the model does with its logits after.
    """

    def __init__(self, model: Any) -> None:
        self._positions: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._pick)

    def at(self, positions: list[int] | None, device: torch.device) -> None:
        """Flat positions (batch * length) of the next forwards' logits, (len(positions), 1, vocabulary); None: all."""
        self._positions = None if positions is None else torch.tensor(positions, dtype=torch.int64, device=device)

    def _pick(self, _module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._positions is None:
            return None
        hidden = args[0]
        return (hidden.flatten(0, 1)[self._positions].unsqueeze(1), *args[1:])


def prompt_token_logprobs(logits: Tensor, following: list[int], top: int) -> list[TokenLogprob]:
    """Log-probs of the tokens that follow: ``logits`` (tokens, vocabulary) at the positions before them."""
    logprobs = logits[: len(following)].float().log_softmax(-1)
    tokens = torch.tensor(following, dtype=torch.int64, device=logits.device)
    own = logprobs.gather(-1, tokens[:, None])
    ranks = (logprobs > own).sum(-1) + 1
    best = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
    return [
        TokenLogprob(token, logprob, rank, tuple(zip(ids, values, strict=True)))
        for token, logprob, rank, ids, values in zip(
            following, own.squeeze(-1).tolist(), ranks.tolist(), best.indices.tolist(), best.values.tolist(),
            strict=True,
        )
    ]  # fmt: skip


def note_logprobs(samples: Sequence[Sample], logits: Tensor, drawn: Tensor) -> None:
    """Record the log-probs of the ``drawn`` tokens for those samples that asked for them."""
    tops = [running.group.params.logprobs for running in samples]
    if all(top is None for top in tops):
        return
    within = drawn.clamp(max=logits.shape[-1] - 1)  # past the end where the logits are no numbers
    own, best, best_ids = token_logprobs(logits, within, max(top or 0 for top in tops))
    for running, top, token, value, ids, values in zip(
        samples, tops, drawn.tolist(), own.tolist(), best_ids.tolist(), best.tolist(), strict=False
    ):
        if top is not None:
            running.logprobs.append(TokenLogprob(token, value, None, tuple(zip(ids[:top], values[:top], strict=True))))
