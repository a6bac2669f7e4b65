"""Drawing one token per row from a batch of logits, every row with its own settings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.engine.compiled.crew import crew
from worker.engine.compiled.draw import draw
from worker.engine.params import SamplingParams

_CANDIDATES = (64, 1024)  # likeliest tokens looked at for top_p, before a row is sorted in full
_CHUNK = 128
_SHARED_FROM = 2**21  # logits of a step, below which one thread draws sooner than another one is woken
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BELOW_ONE = 1.0 - 2.0**-52


@dataclass(frozen=True, slots=True)
class BatchParams:
    """The settings of the rows of a batch, as tensors; built when the batch changes, not for every token."""

    temperature: Tensor | None
    """(rows, 1); 1 for greedy rows; None when every row has 1."""
    greedy: Tensor | None
    """(rows,) bool, None when no row is greedy."""
    all_greedy: bool
    top_k: Tensor | None
    """(rows, 1) int64, the vocabulary's size where there is no limit; None when no row has one."""
    largest_k: int
    top_p: Tensor | None
    """(rows, 1) float64; None when every row has 1."""
    min_p: Tensor | None
    """(rows, 1); None when every row has 0."""
    columns: tuple[Floats, Ints, Floats, Floats]
    """Temperature, top_k, top_p and min_p as they came, (rows,) each: what compiled code reads."""

    @classmethod
    def of(cls, rows: Sequence[SamplingParams], vocabulary: int, device: torch.device) -> "BatchParams":
        """Gather the settings of ``rows``, in their order."""
        return cls.of_columns(
            np.array([row.temperature for row in rows]),
            np.array([row.top_k for row in rows], dtype=np.int64),
            np.array([row.top_p for row in rows]),
            np.array([row.min_p for row in rows]),
            vocabulary,
            device,
        )

    @classmethod
    def of_columns(
        cls, temperature: Floats, top_k: Ints, top_p: Floats, min_p: Floats, vocabulary: int, device: torch.device
    ) -> "BatchParams":
        """The same from one array (rows,) per setting."""
        greedy = temperature == 0
        limits = np.where((top_k > 0) & (top_k < vocabulary), top_k, vocabulary)
        limited = limits < vocabulary

        def column(values: Floats | Ints, dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        warm = np.where(greedy, 1.0, temperature)
        return cls(
            temperature=column(warm, torch.float32) if (warm != 1).any() else None,
            greedy=torch.tensor(greedy, device=device) if greedy.any() else None,
            all_greedy=bool(greedy.all()),
            top_k=column(limits, torch.int64) if limited.any() else None,
            largest_k=int(limits[limited].max()) if limited.any() else 0,
            top_p=column(top_p, torch.float64) if (top_p < 1).any() else None,
            min_p=column(min_p, torch.float32) if (min_p > 0).any() else None,
            columns=(temperature.copy(), top_k.copy(), top_p.copy(), min_p.copy()),
        )


def sample(logits: Tensor, params: BatchParams, uniform: Tensor) -> Tensor:
    """One token per row: ``logits`` (rows, vocabulary), ``uniform`` (rows,) float64 in [0, 1) → (rows,) int64.

    The filters apply in transformers' order: temperature, top_k, top_p (over what top_k left), min_p. The draw
    inverts the distribution function in the vocabulary's order, so that rounding noise in the logits moves the
    boundaries a little instead of reshuffling who is drawn.

    A row whose logits are not numbers gives an id past the vocabulary, which no caller may take for a token.
    """
    if logits.device.type == "cpu":
        return _compiled(logits.float(), params, uniform)
    return by_operators(logits, params, uniform)


def by_operators(logits: Tensor, params: BatchParams, uniform: Tensor) -> Tensor:
    """The same as a few operators on all rows, for a GPU."""
    if params.all_greedy:
        return _likeliest(logits)
    probs = _probabilities(logits.float(), params)
    drawn = _invert(probs, uniform)
    if params.greedy is None:
        return drawn
    return torch.where(params.greedy, _likeliest(logits), drawn)


def _compiled(logits: Tensor, params: BatchParams, uniform: Tensor) -> Tensor:
    (rows, vocabulary), step = logits.shape, logits.stride(0)
    if logits.stride(1) != 1 or (rows > 1 and step < vocabulary):
        logits, step = logits.contiguous(), vocabulary
    flat = logits.as_strided(((rows - 1) * step + vocabulary,), (1,)).numpy()
    drawn = torch.empty(rows, dtype=torch.int64)
    numbers, tokens = uniform.numpy(), drawn.numpy()

    def work(first: int, last: int) -> None:
        draw(flat, step, vocabulary, first, last, numbers, *params.columns, tokens)

    if rows * vocabulary < _SHARED_FROM:
        work(0, rows)
    else:
        crew.split(rows, work)
    return drawn


def token_logprobs(logits: Tensor, tokens: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs of ``tokens`` (rows,) and of the ``top`` likeliest tokens, before temperature and filters.

    Returns:
        (rows,) nats; (rows, top) nats, descending; (rows, top) token ids.
    """
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
    return logprobs.gather(-1, tokens[:, None]).squeeze(-1), best.values, best.indices


def _likeliest(logits: Tensor) -> Tensor:
    best = logits.max(-1)
    return best.indices.masked_fill(best.values.isnan(), logits.shape[-1])


def _probabilities(logits: Tensor, params: BatchParams) -> Tensor:
    """(rows, vocabulary) float32, 0 where a filter took the token out; not renormalised."""
    scaled = logits if params.temperature is None else logits / params.temperature
    probs = scaled.softmax(-1)
    if params.top_k is not None:
        best = scaled.topk(params.largest_k, dim=-1).values
        smallest = best.gather(-1, params.top_k.clamp(max=params.largest_k) - 1)
        unlimited = params.top_k > params.largest_k
        probs.masked_fill_((scaled < smallest) & ~unlimited, 0.0)
    if params.top_p is not None:
        probs.masked_fill_(probs < _top_p_cut(probs, params.top_p), 0.0)
    if params.min_p is not None:
        probs.masked_fill_(probs < params.min_p * probs.amax(-1, keepdim=True), 0.0)
    return probs


def _top_p_cut(probs: Tensor, top_p: Tensor) -> Tensor:
    """(rows, 1): the smallest probability kept. A token stays while those likelier than it hold less than top_p;
    tokens exactly as likely as the last one kept stay with it."""
    mass = top_p * probs.sum(-1, keepdim=True, dtype=torch.float64)
    cut = torch.zeros_like(mass, dtype=probs.dtype)
    rows = (top_p.squeeze(-1) < 1).nonzero().squeeze(-1)
    for width in (*_CANDIDATES, probs.shape[-1]):
        open_probs = probs if len(rows) == len(probs) else probs[rows]
        ordered = open_probs.topk(min(width, probs.shape[-1]), dim=-1).values
        found, wide = _cut_within(ordered, mass[rows])
        cut[rows] = found
        rows = rows[wide.squeeze(-1)]
        if width >= probs.shape[-1] or len(rows) == 0:
            break
    return cut


def _cut_within(ordered: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """The cut among descending probabilities, and whether all of them were still needed."""
    ordered64 = ordered.double()
    before = ordered64.cumsum(-1) - ordered64
    last = (before < mass).sum(-1, keepdim=True).clamp(min=1) - 1
    return ordered.gather(-1, last), last == ordered.shape[-1] - 1


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """The token at which the running sum of each row first exceeds ``uniform`` × its total.

    In two levels (sums of chunks, then one chunk), in float64: a running sum over the whole vocabulary would cost
    more than the softmax, and in float32 would lose the rare tokens at its end.
    """
    rows, vocabulary = probs.shape
    if vocabulary % _CHUNK:
        probs = torch.nn.functional.pad(probs, (0, _CHUNK - vocabulary % _CHUNK))
    chunks = probs.view(rows, -1, _CHUNK)
    sums = chunks.sum(-1).double().cumsum(-1)
    target = uniform[:, None] * sums[:, -1:]
    chunk = torch.searchsorted(sums, target, right=True).clamp(max=sums.shape[-1] - 1)
    before = torch.where(chunk > 0, sums.gather(-1, (chunk - 1).clamp(min=0)), 0.0)
    inside = chunks[torch.arange(rows, device=probs.device), chunk.squeeze(-1)].double().cumsum(-1)
    # Rounding may leave a residue at or past the chunk's end, where only tokens of probability 0 lie.
    residue = torch.minimum((target - before).clamp(min=0.0), inside[:, -1:] * _BELOW_ONE)
    return (chunk * _CHUNK + torch.searchsorted(inside, residue, right=True)).squeeze(-1)
