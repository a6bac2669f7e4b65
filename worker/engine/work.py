"""What the scheduler works on: a request, its prompts, and the samples drawn for each."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from worker.engine.errors import EngineError
from worker.engine.params import SamplingParams, Uniforms
from worker.engine.text import Decode, StoppableText

if TYPE_CHECKING:
    from worker.engine.rows import Rows

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-prob of one token in nats, before temperature and filters, and of the likeliest tokens in its place."""

    token: int
    logprob: float
    rank: int | None = None
    """1 for the likeliest token; only computed for prompts."""
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What one sample gained since the last delta."""

    choice: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob]
    finish_reason: FinishReason | None
    stop_reason: int | str | None


class Sample:
    """One completion in the making."""

    __slots__ = ("choice", "finish_reason", "group", "index", "logprobs", "rows", "sent", "stop_reason", "token_ids",
                 "uniforms", "watch")  # fmt: skip

    def __init__(self, group: "Group", index: int, choice: int) -> None:
        self.group = group
        self.index = index
        self.choice = choice
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self.uniforms = Uniforms(group.params.seed, choice)
        self.rows: Rows | None = None
        """Where it runs, while the tokens it gained there are not in ``token_ids`` yet."""
        self.watch: StoppableText | None = None
        self.sent = 0

    @property
    def position(self) -> int:
        """Position of the last token in prompt and completion together, counted from 0."""
        return len(self.group.prompt_ids) + len(self.token_ids) - 1

    @property
    def sampled_tokens(self) -> int:
        """Tokens sampled so far."""
        return len(self.token_ids) if self.rows is None else self.rows.sampled(self)

    def accept(self, token: int) -> bool:
        """Take the sampled ``token``; True when the completion is done with it."""
        self.token_ids.append(token)
        return self.settle()

    def settle(self) -> bool:
        """Whether the completion is done with its last token, and why."""
        params, token = self.group.params, self.token_ids[-1]
        if token in self.group.ends:
            self.finish_reason = "stop"
            self.stop_reason = token if token in params.stop_token_ids else None
        elif self.watch is not None and self.watch.push(token):
            self.finish_reason, self.stop_reason = "stop", self.watch.stopped_by
        elif len(self.token_ids) >= params.max_tokens:
            self.finish_reason = "length"
        if self.finish_reason is None:
            return False
        if self.watch is not None:
            self.watch.end()
            if self.watch.stopped_by is not None and self.finish_reason == "length":
                self.finish_reason, self.stop_reason = "stop", self.watch.stopped_by
        return True

    def text(self, decode: Decode) -> str:
        """The whole text: without special tokens, a token that ended it, or what follows a stop string."""
        if self.watch is not None:
            return self.watch.text
        ended_by_token = bool(self.token_ids) and self.token_ids[-1] in self.group.ends
        return decode(self.token_ids[:-1] if ended_by_token else self.token_ids)

    def delta(self) -> Delta:
        """What there is since the last call; for requests that stream."""
        start, self.sent = self.sent, len(self.token_ids)
        return Delta(
            choice=self.choice,
            text=self.watch.take() if self.watch is not None else "",
            token_ids=self.token_ids[start:],
            logprobs=self.logprobs[start:],
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )


class Group:
    """A prompt and its samples: computed once, then fanned out."""

    def __init__(self, request: "Request", prompt_ids: list[int], first_choice: int, eos: frozenset[int]) -> None:
        self.request = request
        self.params: SamplingParams = request.params
        self.prompt_ids = prompt_ids
        self.ends = self.params.stop_token_ids if self.params.ignore_eos else self.params.stop_token_ids | eos
        self.samples = [Sample(self, index, first_choice + index) for index in range(self.params.n)]
        self.prompt_logprobs: list[TokenLogprob | None] | None = None

    @property
    def needed_tokens(self) -> int:
        """Longest that prompt and completion can become."""
        return len(self.prompt_ids) + self.params.max_tokens


@dataclass
class Timing:
    """Seconds on the monotonic clock."""

    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None
    first_token: float | None = None
    finished: float | None = None


class Request:
    """One HTTP request's worth of work, shared between the event loop and the scheduler's thread."""

    def __init__(
        self,
        params: SamplingParams,
        prompts: Sequence[list[int]],
        eos: frozenset[int],
        decode: Decode,
        deliver: "Callable[[list[Delta] | EngineError | None], None]",
        *,
        stream: bool,
    ) -> None:
        """``deliver`` is called on the scheduler's thread: with deltas (only when streaming), with an error, or
        with None once everything is done; after an error or None it is not called again."""
        self.params = params
        self.stream = stream
        self.timing = Timing()
        self.cancelled = threading.Event()
        self.closed = False
        self._deliver = deliver
        self._touched: dict[int, Sample] = {}
        self.groups = [Group(self, ids, index * params.n, eos) for index, ids in enumerate(prompts)]
        self.unfinished = sum(len(group.samples) for group in self.groups)
        if stream or params.stop:
            for sample in self.samples:
                sample.watch = StoppableText(decode, params.stop, include_stop=params.include_stop)

    @property
    def samples(self) -> list[Sample]:
        """All samples, in the order of their choice index."""
        return [sample for group in self.groups for sample in group.samples]

    def touch(self, sample: Sample) -> None:
        """Note that ``sample`` took a token."""
        if self.timing.first_token is None:
            self.timing.first_token = time.monotonic()
        if self.stream:
            self._touched[sample.choice] = sample
        if sample.finish_reason is not None:
            self.unfinished -= 1

    def flush(self) -> None:
        """Hand over what there is: deltas when streaming, the end when nothing is left to do."""
        if self.closed:
            return
        if self._touched:
            deltas = [sample.delta() for sample in self._touched.values()]
            self._touched.clear()
            self._deliver(deltas)
        if self.unfinished == 0:
            self.close(None)

    def close(self, error: EngineError | None) -> None:
        """End the request, once."""
        if self.closed:
            return
        self.closed = True
        self.timing.finished = time.monotonic()
        self._deliver(error)
