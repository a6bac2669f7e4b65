"""Helpers: lanes driven by hand, and a real engine process."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import torch
from scipy.stats import chisquare

from tests.factories.models import random_model, tokenizer
from worker.engine.errors import EngineError
from worker.engine.fit import make_lane
from worker.engine.lane import Lane
from worker.engine.params import SamplingParams
from worker.engine.work import Delta, Request

ROOT = Path(__file__).resolve().parents[3]
EOS = frozenset({2})


def decode(ids: Sequence[int]) -> str:
    """Text without special tokens."""
    return str(tokenizer().decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def lane_of(architecture: str = "llama", *, max_rows: int = 16, context_length: int = 256, **changes: Any) -> Lane:
    """A lane around a random model."""
    changes.setdefault("max_position_embeddings", context_length) if architecture != "gpt2" else None
    return make_lane(
        random_model(architecture, **changes),
        context_length=context_length,
        max_rows=max_rows,
        reserve=lambda _bytes: True,
    )


def request_of(
    prompt: Sequence[int],
    *,
    stream: bool = False,
    eos: frozenset[int] = EOS,
    results: list[Any] | None = None,
    **params: Any,
) -> Request:
    """A request for one prompt; what it delivers is appended to ``results``."""
    got: list[Any] = results if results is not None else []

    def deliver(result: list[Delta] | EngineError | None) -> None:
        got.append(result)

    return Request(
        SamplingParams(**({"seed": 0, "max_tokens": 16} | params)), [list(prompt)], eos, decode, deliver, stream=stream
    )


def run(lane: Lane, *requests: Request) -> list[list[list[int]]]:
    """Run the requests together to their end; token ids by request and sample."""
    with torch.inference_mode():
        for request in requests:
            lane.waiting.extend(request.groups)
        while lane.waiting or lane.running:
            lane.step()
    for request in requests:
        request.flush()
    return [[sample.token_ids for sample in request.samples] for request in requests]


def p_value(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Chi-square of observed against expected counts; classes expected fewer than 5 times are taken together."""
    rare = expected < 5
    observed, wanted = counts[~rare], expected[~rare]
    if rare.any():
        observed = torch.cat([observed, counts[rare].sum()[None]])
        wanted = torch.cat([wanted, expected[rare].sum()[None]])
    return float(chisquare(observed.numpy(), wanted.numpy()).pvalue)


class EngineProcess:
    """``python -m worker.engine`` on a free port."""

    def __init__(self, versions: Path, *options: str, secret: str = "", log: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"HONE_ENGINE_SECRET": secret} if secret else {})
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker.engine", "--versions", str(versions), "--port", "0", *options],
                cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on (http://\S+)\n", line)
        assert found, f"{line!r}; its log: {log.read_text()}"
        self.url = found[1]
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self.http = httpx.Client(base_url=self.url, timeout=60, headers=headers, trust_env=False)
        self._wait_ready()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.http.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the engine is not ready: {self.log.read_text()}")

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code
