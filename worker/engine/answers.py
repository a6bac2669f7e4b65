"""The engine's answers, in OpenAI's shapes with vLLM's extensions."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.engine.loading import Loaded
from worker.engine.protocol import ChatRequest, CompletionRequest
from worker.engine.work import Delta, Group, Request, Sample, TokenLogprob


@dataclass
class Answer:
    """Builds the answers to one request; chat and plain completions differ in ``chat``."""

    body: ChatRequest | CompletionRequest
    loaded: Loaded
    request: Request
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = self.id or ("chatcmpl-" if self.chat else "cmpl-") + uuid.uuid4().hex

    @property
    def chat(self) -> bool:
        """Whether this is a chat completion."""
        return isinstance(self.body, ChatRequest)

    def usage(self) -> dict[str, int]:
        """Tokens computed: every prompt once, whatever its number of samples."""
        prompt = sum(len(group.prompt_ids) for group in self.request.groups)
        completion = sum(len(sample.token_ids) for sample in self.request.samples)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def whole(self) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        choices = [self._choice(group, sample) for group in self.request.groups for sample in group.samples]
        answer = self._head("chat.completion" if self.chat else "text_completion")
        answer |= {"choices": choices, "usage": self.usage()}
        if self.chat:
            group = self.request.groups[0]
            if self.body.return_token_ids:
                answer["prompt_token_ids"] = group.prompt_ids
            if group.prompt_logprobs is not None:
                answer["prompt_logprobs"] = self._prompt_logprobs(group)
        return answer

    def first_chunks(self) -> list[dict[str, Any]]:
        """What a chat stream says before its first token: who speaks."""
        if not self.chat:
            return []
        choices = [
            {"index": sample.choice, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            for sample in self.request.samples
        ]
        chunk = self._head("chat.completion.chunk") | {"choices": choices}
        if self.body.return_token_ids:
            chunk["prompt_token_ids"] = self.request.groups[0].prompt_ids
        return [chunk]

    def chunk(self, delta: Delta) -> dict[str, Any] | None:
        """One delta of a stream; None when there is nothing to say yet."""
        if not (delta.text or delta.finish_reason or self.body.return_token_ids or delta.logprobs):
            return None
        choice: dict[str, Any] = {"index": delta.choice}
        choice |= {"delta": {"content": delta.text}} if self.chat else {"text": delta.text}
        choice |= {
            "logprobs": self._logprobs(delta.logprobs),
            "finish_reason": delta.finish_reason,
            "stop_reason": delta.stop_reason,
        }
        if self.body.return_token_ids:
            choice["token_ids"] = delta.token_ids
        return self._head("chat.completion.chunk" if self.chat else "text_completion") | {"choices": [choice]}

    def last_chunks(self) -> list[dict[str, Any]]:
        """What a stream says after its last token: the usage, if that was asked for."""
        options = self.body.stream_options
        if options is None or not options.include_usage:
            return []
        return [
            self._head("chat.completion.chunk" if self.chat else "text_completion")
            | {"choices": [], "usage": self.usage()}
        ]

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.body.model}

    def _choice(self, group: Group, sample: Sample) -> dict[str, Any]:
        text = sample.text(self.loaded.decode)
        choice: dict[str, Any] = {"index": sample.choice}
        choice |= {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice |= {
            "logprobs": self._logprobs(sample.logprobs),
            "finish_reason": sample.finish_reason,
            "stop_reason": sample.stop_reason,
        }
        if self.body.return_token_ids:
            choice["token_ids"] = sample.token_ids
        if not self.chat:
            if self.body.return_token_ids:
                choice["prompt_token_ids"] = group.prompt_ids
            if group.prompt_logprobs is not None:
                choice["prompt_logprobs"] = self._prompt_logprobs(group)
        return choice

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if self.request.params.logprobs is None:
            return None
        if self.chat:
            content = [
                self._chat_logprob(entry.token, entry.logprob)
                | {"top_logprobs": [self._chat_logprob(token, value) for token, value in entry.top]}
                for entry in logprobs
            ]
            return {"content": content}
        tokens = [self._token(entry.token) for entry in logprobs]
        offsets = [0]
        for token in tokens[:-1]:
            offsets.append(offsets[-1] + len(token))
        return {
            "tokens": tokens,
            "token_logprobs": [entry.logprob for entry in logprobs],
            "top_logprobs": [
                {self._token(entry.token): entry.logprob} | {self._token(token): value for token, value in entry.top}
                for entry in logprobs
            ],
            "text_offset": offsets[: len(tokens)],
        }

    def _chat_logprob(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._token(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _prompt_logprobs(self, group: Group) -> list[dict[str, Any] | None]:
        """A list over the prompt: None for its first token, else token id → log-prob, rank and text."""
        found: list[dict[str, Any] | None] = []
        for entry in group.prompt_logprobs or []:
            if entry is None:
                found.append(None)
                continue
            ranked = [(token, value, rank) for rank, (token, value) in enumerate(entry.top, start=1)]
            own = [(entry.token, entry.logprob, entry.rank)]
            found.append({
                str(token): {"logprob": value, "rank": rank, "decoded_token": self._token(token)}
                for token, value, rank in [*ranked, *own]
            })  # fmt: skip
        return found

    def _token(self, token: int) -> str:
        text = self.loaded.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)


def sse(data: dict[str, Any]) -> str:
    """One event of a stream."""
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
