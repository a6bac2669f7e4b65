"""A new version is published, becomes the current one, and the old one leaves, while fifty clients keep asking."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import openai

from tests import aside
from tests.worker.engine.running import EngineProcess

CLIENTS = 50
Answers = dict[tuple[str, int], str]
"""By the version asked and the seed."""
MESSAGES: list[Any] = [{"role": "user", "content": "first tea"}]


async def ask(sdk: openai.AsyncOpenAI, model: str, seed: int) -> str:
    answer = await sdk.chat.completions.create(model=model, messages=MESSAGES, seed=seed, max_tokens=24)
    assert answer.model == model
    return answer.choices[0].message.content or ""


async def streamed(sdk: openai.AsyncOpenAI, model: str, seed: int) -> str:
    stream = await sdk.chat.completions.create(model=model, messages=MESSAGES, seed=seed, max_tokens=24, stream=True)
    return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])


async def swap(engine: EngineProcess, versions: Path, staged: Path) -> Answers:
    """What every client got; each asks three times, one after the other."""
    current = "llama"
    got: Answers = {}
    asked = asyncio.Event()

    async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0, timeout=120) as sdk:

        async def client(number: int) -> None:
            for turn in range(3):
                model, seed = current, 100 * turn + number
                if len(got) > CLIENTS // 2:
                    asked.set()
                got[model, seed] = await (ask if number % 2 else streamed)(sdk, model, seed)

        clients = [asyncio.ensure_future(client(number)) for number in range(CLIENTS)]
        await asked.wait()
        await asyncio.to_thread(
            staged.rename, versions / "adapter-new"
        )  # published as a version is: whole, by its name
        current = "adapter-new"
        response = await asyncio.to_thread(engine.http.post, "/v1/unload_lora_adapter", json={"lora_name": "llama"})
        assert response.status_code == 200, "the old version left once its last request was done"
        await asyncio.gather(*clients)
        assert {model for model, _ in got} == {"llama", "adapter-new"}
        again = {key: await ask(sdk, *key) for key in list(got)[::15]}
        assert again == {key: got[key] for key in again}, "and nobody got another version's words"
    return got


def test_swapping_versions_under_fifty_clients_loses_no_request(own_versions: Path, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    shutil.move(own_versions / "adapter-2", staged)
    engine = EngineProcess(own_versions, "--max-batch", "32", "--max-queue", "64", log=tmp_path / "log")
    try:
        got = aside.run(swap(engine, own_versions, staged))
    finally:
        assert engine.stop() == 0
    assert len(got) == 3 * CLIENTS
    log = engine.log.read_text()
    assert log.count("outcome=done") >= 3 * CLIENTS
    assert "engine.unload model=llama" in log
    assert "outcome=failed" not in log
    assert "outcome=cancelled" not in log
