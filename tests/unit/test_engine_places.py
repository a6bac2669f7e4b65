"""Several addresses, and SGLang's dialect: who is asked for what, and that nobody answers for a model not theirs."""

from pathlib import Path

import httpx
import pytest

from app.engine.asynchronous import AsyncEngineClient
from app.engine.client import EngineClient, EngineNonsense, EngineRefused, EngineUnavailable, Sampling
from app.engine.draining import adapters_at_work
from tests import aside
from tests.factories.other_engines import OtherEngine, other_engine

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text("{}")
    return tmp_path


def texts(client: EngineClient, model: str, seed: int = 1) -> list[str]:
    return [choice.text for choice in client.chat(model, MESSAGES, Sampling(), n=2, seed=seed).choices]


def test_each_version_is_asked_for_where_it_is_served(adapter: Path) -> None:
    with other_engine("blue") as blue, other_engine("green") as green:
        with EngineClient(f"{blue.url}, {green.url}/") as client:
            texts(client, "blue")
            texts(client, "green")
            client.load("on-green", adapter, base="green")
            texts(client, "on-green")
            assert client.models() == ["blue", "green", "on-green"]
            assert {name: url for name, (url, _) in client.serving().items()} == {
                "blue": blue.url, "green": green.url, "on-green": green.url,
            }  # fmt: skip
            with pytest.raises(EngineRefused) as nobody:
                texts(client, "red")
            assert nobody.value.code == "model_not_found"
            with pytest.raises(EngineRefused) as homeless:
                client.load("on-red", adapter, base="red")
            assert "red" in homeless.value.message
        assert [model for model, _, _ in blue.asked] == ["blue"]
        assert [model for model, _, _ in green.asked] == ["green", "on-green"]


def test_an_address_that_is_down_is_no_proof_that_nobody_serves_it() -> None:
    with other_engine("blue") as blue, EngineClient(f"{blue.url},http://127.0.0.1:1") as client:
        assert client.health()
        assert len(texts(client, "blue")) == 2
        with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:1"):
            texts(client, "green")


async def streamed(engine: OtherEngine, model: str) -> tuple[list[str], list[int]]:
    async with (
        AsyncEngineClient(engine.url, kind="sglang") as client,
        client.stream(model, MESSAGES, Sampling(), n=2, seed=1) as stream,
    ):
        return [piece.text async for piece in stream], stream.sampled().prompt_ids


def test_sglang_is_spoken_to_as_it_wants_to_be(adapter: Path) -> None:
    with other_engine("base", "sglang") as engine, EngineClient(engine.url, kind="sglang") as client:
        client.load("tuned", adapter, base="base")
        client.load("tuned", adapter, base="base")
        expected = texts(client, "tuned")
        assert expected != texts(client, "base")
        with client.stream("tuned", MESSAGES, Sampling(), n=2, seed=1) as stream:
            assert [piece.text for piece in stream] == expected
        assert stream.sampled() == client.chat("tuned", MESSAGES, Sampling(), n=2, seed=1)
        assert stream.prompt_ids == [1, 5]
        assert aside.run(streamed(engine, "tuned")) == (expected, [1, 5])
        client.unload("tuned")
        client.unload("tuned")
        with pytest.raises(EngineRefused) as gone:
            texts(client, "tuned")
        assert gone.value.code == "model_not_found"
        assert {model for model, _, _ in engine.asked} == {"tuned", "base"}


def test_an_adapter_that_left_behind_our_back_is_not_found(adapter: Path) -> None:
    with other_engine("base", "sglang") as engine, EngineClient(engine.url, kind="sglang") as client:
        client.load("tuned", adapter, base="base")
        texts(client, "tuned")
        engine.adapters.clear()
        with pytest.raises(EngineRefused) as gone:
            texts(client, "tuned")
        assert gone.value.code == "model_not_found"


def test_sglang_taken_for_vllm_is_found_out_before_its_answer_is_believed() -> None:
    """It would answer a request for any version from the one model it has."""
    with (
        other_engine("base", "sglang") as engine,
        EngineClient(engine.url) as client,
        pytest.raises(EngineNonsense, match="HONE_ENGINE_KIND=sglang"),
    ):
        texts(client, "some-other-version")


def test_why_an_adapter_cannot_be_loaded_is_said() -> None:
    refused = {"success": False, "error_message": "LoRA rank 64 exceeds max_lora_rank 16"}
    listing = {"data": [{"id": "base", "owned_by": "sglang"}]}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=listing) if request.method == "GET" else httpx.Response(400, json=refused)

    transport = httpx.MockTransport(answer)
    with (
        EngineClient("http://engine", kind="sglang", transport=transport) as client,
        pytest.raises(EngineRefused, match="rank 64"),
    ):
        client.load("tuned", "/versions/tuned", base="base")


def test_who_still_works_is_read_from_vllms_newest_metric() -> None:
    lines = [
        'vllm:lora_requests_info{max_lora="1",running_lora_adapters="old",waiting_lora_adapters=""} 1.7e+09',
        'vllm:lora_requests_info{max_lora="1",running_lora_adapters="a,b",waiting_lora_adapters="c"} 1.8e+09',
        'vllm:lora_requests_info{max_lora="1",running_lora_adapters="",waiting_lora_adapters=""} 1.6e+09',
    ]
    assert adapters_at_work("\n".join(["# TYPE vllm:lora_requests_info gauge", *lines])) == {"a", "b", "c"}
    assert adapters_at_work("\n".join(lines[:1])) == {"old"}
    assert adapters_at_work(lines[2]) == set()
    assert adapters_at_work("vllm:num_requests_running 3\n") is None
