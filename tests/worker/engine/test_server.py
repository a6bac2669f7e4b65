"""A real engine process, spoken to by the official SDK, by the product's client, and by clients that misbehave."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx
import openai
import pytest

from app.engine.client import EngineClient, EngineRefused, EngineUnavailable, Sampling
from tests import aside
from tests.factories.models import tokenizer
from tests.worker.engine.running import EngineProcess, decode

MESSAGES: list[Any] = [{"role": "user", "content": "first tea"}]


@pytest.fixture
def sdk(engine: EngineProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def post(engine: EngineProcess, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
    if path.endswith("chat/completions"):
        body = {"model": "llama", "messages": MESSAGES, "max_tokens": 8} | body
    return engine.http.post(path, json=body)


def error_of(response: httpx.Response) -> dict[str, Any]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error, dict)
    return error


def test_sdk_chat(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="llama", messages=MESSAGES, n=2, seed=3, max_tokens=12, temperature=0.9)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content != answer.choices[1].message.content
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = sdk.chat.completions.create(model="llama", messages=MESSAGES, n=2, seed=3, max_tokens=12, temperature=0.9)
    assert [c.message.content for c in again.choices] == [c.message.content for c in answer.choices]


def test_sdk_stream_is_the_answer_in_pieces(sdk: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"model": "llama", "messages": MESSAGES, "n": 3, "seed": 8, "max_tokens": 40}
    whole = sdk.chat.completions.create(**settings)
    texts, reasons, usage, deltas = ["", "", ""], {}, None, 0
    for chunk in sdk.chat.completions.create(stream=True, stream_options={"include_usage": True}, **settings):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            deltas += 1
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason is not None:
                reasons[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage
    assert deltas > 30


def test_sdk_async(engine: EngineProcess) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client:
            calls = [
                client.chat.completions.create(model=model, messages=MESSAGES, seed=seed, max_tokens=10)
                for model in ("llama", "adapter-1")
                for seed in range(4)
            ]
            return [answer.choices[0].message.content or "" for answer in await asyncio.gather(*calls)]

    texts = aside.run(ask())
    assert len(set(texts)) == 8
    assert texts == aside.run(ask())


def test_sdk_completions_of_texts_and_ids(sdk: openai.OpenAI) -> None:
    ids = tokenizer().encode("tea boat", add_special_tokens=False)
    settings: dict[str, Any] = {"model": "llama", "seed": 1, "max_tokens": 6, "logprobs": 2}
    by_text = sdk.completions.create(prompt="tea boat", **settings)
    by_ids = sdk.completions.create(prompt=ids, **settings)
    assert by_text.choices[0].text == by_ids.choices[0].text
    found = by_text.choices[0].logprobs
    assert found is not None
    assert found.tokens is not None
    assert len(found.tokens) == 6
    many = sdk.completions.create(model="llama", prompt=["tea", "boat"], n=2, seed=1, max_tokens=4)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in many.choices}) == 4


def test_sdk_every_sampling_field_does_what_it_says(sdk: openai.OpenAI) -> None:
    """What OpenAI's API lacks goes through ``extra_body``; what comes back beside it is read by attribute."""

    def ask(extra: dict[str, Any] | None = None, **fields: Any) -> Any:
        settings: dict[str, Any] = {"model": "llama", "messages": MESSAGES, "seed": 4, "max_tokens": 24}
        body = {"ignore_eos": True, "return_token_ids": True} | (extra or {})
        return sdk.chat.completions.create(**settings | fields, extra_body=body)

    (greedy,) = ask(temperature=0).choices
    (warm,) = ask(temperature=1.5).choices
    assert warm.token_ids != greedy.token_ids
    for narrow in (ask(top_p=1e-6), ask({"top_k": 1}), ask({"min_p": 1.0})):
        assert narrow.choices[0].token_ids == greedy.token_ids
    (stopped,) = ask({"stop_token_ids": [warm.token_ids[9]]}, temperature=1.5).choices
    length = warm.token_ids.index(warm.token_ids[9]) + 1
    assert (stopped.token_ids, stopped.finish_reason) == (warm.token_ids[:length], "stop")
    assert stopped.stop_reason == warm.token_ids[9]
    text = warm.message.content
    stop = next(text[i : i + 3] for i in range(10, len(text)) if "\ufffd" not in text[i : i + 3])
    (cut,) = ask(temperature=1.5, stop=[stop]).choices
    assert (cut.message.content, cut.stop_reason) == (text[: text.index(stop)], stop)
    told = ask({"prompt_logprobs": 1}, logprobs=True, top_logprobs=3)
    assert len(told.prompt_logprobs) == len(told.prompt_token_ids) == told.usage.prompt_tokens
    assert [len(entry.top_logprobs) for entry in told.choices[0].logprobs.content] == [3] * 24


def test_sdk_async_streams_are_the_same_answers(engine: EngineProcess, sdk: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"model": "llama", "messages": MESSAGES, "n": 2, "max_tokens": 30}

    async def stream(client: openai.AsyncOpenAI, seed: int) -> list[str]:
        texts = ["", ""]
        async for chunk in await client.chat.completions.create(stream=True, seed=seed, **settings):
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        return texts

    async def both() -> list[list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client:
            return list(await asyncio.gather(*(stream(client, seed) for seed in range(4))))

    whole = [sdk.chat.completions.create(seed=seed, **settings).choices for seed in range(4)]
    assert aside.run(both()) == [[choice.message.content for choice in choices] for choices in whole]


def test_sdk_is_told_to_come_back_later(engine: EngineProcess, sdk: openai.OpenAI) -> None:
    ask: dict[str, Any] = {"model": "llama", "messages": MESSAGES, "max_tokens": 1}
    with started(engine, n=8, max_tokens=240), started(engine, n=8, max_tokens=240):
        with pytest.raises(openai.RateLimitError) as full:
            sdk.chat.completions.create(**ask)
        assert (full.value.code, full.value.response.headers["retry-after"]) == ("queue_full", "1")
    engine.http.post("/sleep")
    with pytest.raises(openai.InternalServerError) as asleep:
        sdk.chat.completions.create(**ask)
    assert (asleep.value.status_code, asleep.value.code) == (503, "asleep")
    engine.http.post("/wake_up")
    assert sdk.chat.completions.create(**ask).usage is not None


def test_sdk_models(sdk: openai.OpenAI) -> None:
    names = {model.id: model for model in sdk.models.list()}
    assert set(names) == {"llama", "gpt2", "gemma3_text", "adapter-1", "adapter-2"}
    assert names["adapter-1"].model_dump()["parent"] == "llama"


def test_sdk_sees_typed_errors(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(model="nothing", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        sdk.chat.completions.create(model="llama", messages=[{"role": "user", "content": "tea " * 300}])
    assert long.value.code == "context_length_exceeded"


def test_token_ids_are_what_was_sampled(engine: EngineProcess) -> None:
    answer = post(engine, n=4, seed=5, max_tokens=60, return_token_ids=True, temperature=1.2).json()
    expected = tokenizer().apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert answer["prompt_token_ids"] == expected
    for choice in answer["choices"]:
        ids = choice["token_ids"]
        ended = ids[-1] == 2
        assert choice["finish_reason"] == ("stop" if ended else "length")
        assert choice["message"]["content"] == decode(ids)
    assert answer["usage"]["completion_tokens"] == sum(len(c["token_ids"]) for c in answer["choices"])


def test_stream_carries_the_same_token_ids(engine: EngineProcess) -> None:
    whole = post(engine, n=2, seed=5, max_tokens=30, return_token_ids=True).json()
    ids: dict[int, list[int]] = {0: [], 1: []}
    prompts = []
    for data in events(engine, n=2, seed=5, max_tokens=30, return_token_ids=True):
        prompts += [data["prompt_token_ids"]] if "prompt_token_ids" in data else []
        for choice in data["choices"]:
            ids[choice["index"]] += choice.get("token_ids", [])
    assert list(ids.values()) == [choice["token_ids"] for choice in whole["choices"]]
    assert prompts == [whole["prompt_token_ids"]]


def events(engine: EngineProcess, **body: Any) -> list[dict[str, Any]]:
    response = post(engine, stream=True, **body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *data, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in data]


def test_stop_strings_cut_text_and_keep_ids(engine: EngineProcess) -> None:
    plain = post(engine, seed=2, max_tokens=60, return_token_ids=True, ignore_eos=True).json()["choices"][0]
    text = plain["message"]["content"]
    stop = next(text[i : i + 3] for i in range(20, len(text)) if "\ufffd" not in text[i : i + 3])
    settings: dict[str, Any] = {"seed": 2, "max_tokens": 60, "stop": ["never this", stop], "ignore_eos": True}
    stopped = post(engine, return_token_ids=True, **settings).json()["choices"][0]
    assert stopped["message"]["content"] == text[: text.index(stop)]
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", stop)
    assert stopped["token_ids"] == plain["token_ids"][: len(stopped["token_ids"])]
    assert stop in decode(stopped["token_ids"])
    streamed = "".join(c["delta"]["content"] for e in events(engine, **settings) for c in e["choices"])
    assert streamed == stopped["message"]["content"]
    kept = post(engine, include_stop_str_in_output=True, **settings).json()["choices"][0]
    assert kept["message"]["content"] == text[: text.index(stop) + len(stop)]


def test_logprobs_have_openais_shape(engine: EngineProcess) -> None:
    answer = post(engine, seed=1, max_tokens=3, logprobs=True, top_logprobs=2, prompt_logprobs=1).json()
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == 3
    for entry in content:
        assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
        assert len(entry["top_logprobs"]) == 2
        assert entry["logprob"] <= entry["top_logprobs"][0]["logprob"] + 1e-6
    first, *others = answer["prompt_logprobs"]
    assert first is None
    ids = tokenizer().apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    for token, found in zip(ids[1:], others, strict=True):
        assert set(found[str(token)]) == {"logprob", "rank", "decoded_token"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"best_of": 3}, "best_of"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 11}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "8"}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"seed": 2**63}, "seed"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"top_logprobs": 2}, None),
        ({"stream_options": {"include_usage": True}}, None),
        ({"max_tokens": 252}, "messages"),
    ],
)
def test_bad_requests_are_named(engine: EngineProcess, body: dict[str, Any], param: str | None) -> None:
    response = post(engine, **body)
    assert response.status_code == 400, response.text
    found = error_of(response)["param"]
    assert found == param or (found or "").startswith(f"{param}.")


def test_neutral_values_are_fine(engine: EngineProcess) -> None:
    neutral = {"top_k": -1, "top_p": 1, "min_p": 0, "presence_penalty": 0, "frequency_penalty": 0.0, "user": "someone"}
    seeded = {"seed": 3, "max_tokens": 8}
    assert (
        post(engine, **neutral, **seeded).json()["choices"][0]["message"]
        == post(engine, **seeded).json()["choices"][0]["message"]
    )


def test_broken_bodies_and_ids(engine: EngineProcess) -> None:
    broken = engine.http.post("/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 400
    error_of(broken)
    outside = engine.http.post("/v1/completions", json={"model": "llama", "prompt": [9999]})
    assert outside.status_code == 400
    assert "9999" in error_of(outside)["message"]
    empty = engine.http.post("/v1/completions", json={"model": "llama", "prompt": ""})
    assert (empty.status_code, error_of(empty)["param"]) == (400, "prompt")
    assert engine.http.get("/nowhere").status_code == 404


def test_the_context_can_be_filled_to_its_end(engine: EngineProcess) -> None:
    fits = post(engine, max_tokens=251, ignore_eos=True, return_token_ids=True).json()
    assert len(fits["choices"][0]["token_ids"]) == 251
    unbounded = engine.http.post(
        "/v1/chat/completions",
        json={"model": "llama", "messages": MESSAGES, "ignore_eos": True, "return_token_ids": True},
    )
    assert len(unbounded.json()["choices"][0]["token_ids"]) == 251


def test_tokenize_counts_what_sampling_sees(engine: EngineProcess) -> None:
    with EngineClient(engine.url) as client:
        count, context = client.tokenize("llama", MESSAGES)
        sampled = client.chat("llama", MESSAGES, Sampling(max_tokens=4), n=2, seed=1)
    assert (count, context) == (len(sampled.prompt_ids), 256)
    text = engine.http.post("/tokenize", json={"model": "llama", "prompt": "tea boat"}).json()
    assert text["tokens"] == tokenizer().encode("tea boat")


def test_the_products_client_works(engine: EngineProcess) -> None:
    with EngineClient(engine.url + "/") as client:
        assert client.health()
        assert "adapter-2" in client.models()
        sampling = Sampling(temperature=0.8, top_p=0.95, top_k=50, max_tokens=20, stop=("zzz",))
        sampled = client.chat("adapter-2", MESSAGES, sampling, n=3, seed=9)
        assert len(sampled.choices) == 3
        assert all(decode(choice.token_ids) == choice.text for choice in sampled.choices)
        assert client.chat("adapter-2", MESSAGES, sampling, n=3, seed=9) == sampled
        with client.stream("adapter-2", MESSAGES, sampling, n=3, seed=9) as stream:
            pieces = list(stream)
        assert len(pieces) > 3
        assert stream.sampled() == sampled
        with pytest.raises(EngineRefused), client.stream("nothing", MESSAGES, sampling, n=1, seed=9):
            pytest.fail("entered a stream that was refused")
        with pytest.raises(EngineRefused) as refused:
            client.chat("llama", [{"role": "user", "content": "tea " * 300}], sampling, n=1, seed=0)
        assert refused.value.code == "context_length_exceeded"
        client.load("adapter-1")
        client.unload("adapter-1")
        client.unload("adapter-1")
        with pytest.raises(EngineRefused) as unknown:
            client.load("nothing")
        assert unknown.value.code == "model_not_found"


def test_a_client_that_goes_away_frees_its_slots(engine: EngineProcess) -> None:
    """All eight slots are taken by someone who hangs up; the next one gets them long before they would be done."""
    for stream in (True, False):
        before = engine.log.read_text().count("outcome=cancelled")
        body = json.dumps(
            {"model": "llama", "messages": MESSAGES, "n": 8, "max_tokens": 240, "ignore_eos": True} | {"stream": stream}
        )
        address = urlparse(engine.url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            if stream:
                assert b"200 OK" in connection.recv(1000)
            else:
                time.sleep(0.1)
        deadline = time.monotonic() + 10
        while engine.log.read_text().count("outcome=cancelled") == before and time.monotonic() < deadline:
            time.sleep(0.02)
        line = [row for row in engine.log.read_text().splitlines() if "outcome=cancelled" in row][-1]
        assert int(line.split("completion_tokens=")[1].split()[0]) < 8 * 240
        assert post(engine, n=8).status_code == 200


@contextmanager
def started(engine: EngineProcess, **body: Any) -> Iterator[Iterator[str]]:
    """A stream that has begun; yields its remaining lines."""
    body = {"model": "llama", "messages": MESSAGES, "stream": True, "ignore_eos": True} | body
    with engine.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        yield lines


def test_a_full_queue_says_when_to_come_back(engine: EngineProcess) -> None:
    """Sixteen completions in flight are the limit here."""
    with started(engine, n=8, max_tokens=240), started(engine, n=8, max_tokens=240):
        response = post(engine, n=1, max_tokens=1)
        assert (response.status_code, error_of(response)["code"]) == (429, "queue_full")
        assert int(response.headers["retry-after"]) >= 1
        with EngineClient(engine.url) as client, pytest.raises(EngineUnavailable) as unavailable:
            client.chat("llama", MESSAGES, Sampling(max_tokens=1), n=1, seed=0)
        assert unavailable.value.retry_after_seconds == 1
    assert post(engine, n=17).status_code == 400


def test_sleep_and_wake(engine: EngineProcess) -> None:
    with EngineClient(engine.url) as client:
        expected = client.chat("llama", MESSAGES, Sampling(max_tokens=8), n=2, seed=1)
        with started(engine, max_tokens=100, return_token_ids=True) as running:
            client.sleep()
            events = [json.loads(line.removeprefix("data: ")) for line in running if line.startswith("data: {")]
        assert sum(len(event["choices"][0]["token_ids"]) for event in events) == 100, "what ran was not cut off"
        assert client.is_sleeping()
        assert client.health()
        with pytest.raises(EngineUnavailable) as asleep:
            client.chat("llama", MESSAGES, Sampling(max_tokens=8), n=2, seed=1)
        assert asleep.value.retry_after_seconds == 5
        client.wake()
        assert not client.is_sleeping()
        assert client.chat("llama", MESSAGES, Sampling(max_tokens=8), n=2, seed=1) == expected


def test_logs_say_what_happened_and_nothing_that_was_said(engine: EngineProcess) -> None:
    body = {"model": "llama", "prompt": "a secret phrase", "max_tokens": 3, "n": 2}
    engine.http.post("/v1/completions", json=body, headers={"X-Hone-Request-ID": "for-somebody"})
    line = [row for row in engine.log.read_text().splitlines() if "engine.request id=cmpl-" in row][-1]
    assert " outcome=done prompts=1 n=2 " in line
    assert "model=llama" in line
    assert line.endswith("[request_id=for-somebody]")
    assert "secret phrase" not in engine.log.read_text()


def test_the_secret_is_asked_for(versions: Path, tmp_path: Path) -> None:
    process = EngineProcess(versions, secret="s3cret", log=tmp_path / "log")
    try:
        with httpx.Client(base_url=process.url, trust_env=False) as stranger:
            assert stranger.get("/health").status_code == 200
            for path in ("/v1/models", "/is_sleeping", "/docs", "/openapi.json"):
                response = stranger.get(path)
                assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")
            for wrong in ("Bearer wrong", "s3cret", "Bearer", "bearer S3CRET"):
                assert stranger.post("/sleep", headers={"Authorization": wrong}).status_code == 401
        assert process.http.get("/v1/models").status_code == 200
        assert "s3cret" not in process.log.read_text()
    finally:
        assert process.stop() == 0
