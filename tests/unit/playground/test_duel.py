"""Two answers in step: nothing in what is seen, and when, tells the fast version from the slow one."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.chat.asking import Engines, Question
from app.db.ids import new_id
from app.engine.asynchronous import AsyncEngineClient
from app.engine.client import EngineClient, Sampling
from app.playground import duel
from app.playground.duel import CUT_OFF, Duel, Shown

FAST, SLOW = new_id(), new_id()
PIECES = 24


class Voices(httpx.AsyncBaseTransport):
    """An engine of two versions: how long each waits before each of its pieces, seconds, and where it breaks off."""

    def __init__(self, waits: dict[str, float], breaks: dict[str, int] | None = None) -> None:
        self.waits, self.breaks = waits, breaks or {}
        self.closed: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        model = json.loads(request.content)["model"]

        async def body() -> AsyncIterator[bytes]:
            try:
                for number in range(1, PIECES + 1):
                    await asyncio.sleep(self.waits[model])
                    if number > self.breaks.get(model, PIECES):
                        return
                    choice: dict[str, Any] = {"index": 0, "delta": {"content": "x"}, "token_ids": [7]}
                    if number == PIECES:
                        choice["finish_reason"] = "stop"
                    yield b"data: " + json.dumps({"choices": [choice], "prompt_token_ids": [1]}).encode() + b"\n\n"
                yield b"data: [DONE]\n\n"
            finally:
                self.closed.append(model)

        return httpx.Response(200, content=body(), request=request)


def make(voices: Voices, tmp_path: Path) -> Duel:
    for version in (FAST, SLOW):
        folder = tmp_path / str(version)
        folder.mkdir()
        (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    engines = Engines(AsyncEngineClient("http://engine", transport=voices), EngineClient("http://engine"), tmp_path)
    left, right = (
        Question(version, [{"role": "user", "content": "Hi"}], Sampling(), 1, seed)
        for seed, version in enumerate((FAST, SLOW))
    )
    return Duel(engines, left, right)


def run(work: Coroutine[Any, Any, list[Shown]]) -> list[Shown]:
    """On a loop of its own, in a thread: where a browser's tests ran before, this thread has one already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def watch(fight: Duel) -> list[Shown]:
    fight.start()
    return [shown async for shown in fight.shown()]


def lengths(seen: list[Shown], side: str) -> list[int]:
    return [len(shown.text) for shown in seen if shown.side == side and not shown.ended]


def test_a_fast_and_a_slow_version_are_seen_at_the_same_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "TICK_SECONDS", 0.01)
    fight = make(Voices({str(FAST): 0.005, str(SLOW): 0.03}), tmp_path)
    seen = run(watch(fight))
    assert lengths(seen, "a") == lengths(seen, "b")
    assert len(set(lengths(seen, "a"))) > 4, "it is seen growing"
    assert [shown.side for shown in seen if shown.ended] == ["a", "b"]
    answers = fight.answers()
    assert [(answers[side]["text"], answers[side]["end"], answers[side]["ids"]) for side in "ab"] == [
        ("x" * PIECES, "eos", [7] * PIECES)] * 2  # fmt: skip


def test_a_side_that_breaks_off_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "TICK_SECONDS", 0.01)
    fight = make(Voices({str(FAST): 0.0, str(SLOW): 0.005}, {str(SLOW): 3}), tmp_path)
    seen = run(watch(fight))
    ends = {shown.side: shown.error for shown in seen if shown.ended}
    assert ends == {"a": None, "b": CUT_OFF}
    assert fight.answers()["b"] == {"error": CUT_OFF, "text": "xxx"}
    assert fight.answers()["a"]["text"] == "x" * PIECES
    assert lengths(seen, "a")[-1] == PIECES


def test_a_side_that_falls_silent_does_not_hold_the_other_back_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duel, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(duel, "STALL_SECONDS", 0.1)
    voices = Voices({str(FAST): 0.0, str(SLOW): 60.0})
    fight = make(voices, tmp_path)

    async def until_one_ends() -> list[Shown]:
        fight.start()
        seen = []
        async for shown in fight.shown():
            seen.append(shown)
            if shown.ended:
                break
        await fight.stop()
        return seen

    seen = run(until_one_ends())
    assert (seen[-1].side, seen[-1].error) == ("a", None)
    assert str(SLOW) in voices.closed, "what nobody waits for any more is not sampled"
