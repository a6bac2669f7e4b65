"""The client against answers as vLLM and its proxies document them, and against servers that die in mid-sentence.

The shapes are written from vLLM's documentation of its OpenAI-compatible server; Hone's own engine is held to the
client in ``tests/worker/engine/test_server.py``.
"""

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.engine.client import EngineClient, EngineNonsense, EngineRefused, EngineUnavailable, Sampling
from app.errors import DomainError
from tests.unit.engine_servers import server

MESSAGES = [{"role": "user", "content": "hello"}]
Answer = Callable[[httpx.Request], httpx.Response]


def vllm_answer(**changes: Any) -> dict[str, Any]:
    """A chat completion of vLLM 0.11 with ``return_token_ids``."""
    choice = {
        "index": 0, "finish_reason": "stop", "stop_reason": None, "logprobs": None, "token_ids": [40, 41, 2],
        "message": {
            "role": "assistant", "content": "Hi.", "refusal": None, "annotations": None, "audio": None,
            "function_call": None, "tool_calls": [], "reasoning_content": None,
        },
    }  # fmt: skip
    second = choice | {"index": 1, "token_ids": [42], "finish_reason": "length"}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "v", "choices": [choice, second],
        "service_tier": None, "system_fingerprint": None, "prompt_logprobs": None, "prompt_token_ids": [1, 7, 8],
        "kv_transfer_params": None, "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    } | changes  # fmt: skip


def client_of(answer: Answer | httpx.Response, secret: str = "") -> EngineClient:
    handler = answer if callable(answer) else lambda _request: answer
    return EngineClient("http://engine:1/", secret, transport=httpx.MockTransport(handler))


def chat(answer: Answer | httpx.Response, n: int = 2, sampling: Sampling | None = None) -> Any:
    with client_of(answer) as client:
        return client.chat("v", MESSAGES, sampling or Sampling(), n=n, seed=5)


def test_what_is_asked() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=vllm_answer())

    with client_of(answer, secret="s3cret") as client:
        client.chat("v", MESSAGES, Sampling(0.7, 0.9, 40, 64, ("END",)), n=2, seed=5)
        client.chat("v", MESSAGES, Sampling(), n=2, seed=6)
    full, plain = (json.loads(request.content) for request in seen)
    assert str(seen[0].url) == "http://engine:1/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer s3cret"
    assert full == {
        "model": "v", "messages": MESSAGES, "n": 2, "seed": 5, "return_token_ids": True, "temperature": 0.7,
        "top_p": 0.9, "top_k": 40, "max_tokens": 64, "stop": ["END"],
    }  # fmt: skip
    assert not {"top_p", "top_k", "stop"} & set(plain), "servers spell 'no limit' differently, so it is not said"


def test_vllms_answer_is_read() -> None:
    sampled = chat(httpx.Response(200, json=vllm_answer()))
    assert sampled.prompt_ids == [1, 7, 8]
    assert [(c.text, c.token_ids, c.finish_reason) for c in sampled.choices] == [
        ("Hi.", [40, 41, 2], "stop"),
        ("Hi.", [42], "length"),
    ]


def test_choices_may_come_in_any_order() -> None:
    answer = vllm_answer()
    answer["choices"].reverse()
    assert [c.token_ids for c in chat(httpx.Response(200, json=answer)).choices] == [[40, 41, 2], [42]]


def test_missing_prompt_ids_are_asked_for() -> None:
    """Servers that return sampled ids but not the prompt's."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/tokenize":
            assert json.loads(request.content)["messages"] == MESSAGES
            return httpx.Response(200, json={"count": 3, "max_model_len": 512, "tokens": [1, 7, 8], "token_strs": None})
        body = vllm_answer()
        del body["prompt_token_ids"]
        return httpx.Response(200, json=body)

    assert chat(answer).prompt_ids == [1, 7, 8]


def without(*path: Any) -> dict[str, Any]:
    """vLLM's answer without one field."""
    answer = vllm_answer()
    place: Any = answer
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return answer


def test_optional_fields_may_be_missing() -> None:
    for path in (("id",), ("usage",), ("created",), ("choices", 0, "logprobs"), ("choices", 0, "stop_reason")):
        assert len(chat(httpx.Response(200, json=without(*path))).choices) == 2
    null = vllm_answer()
    null["choices"][0]["message"]["content"] = None
    assert chat(httpx.Response(200, json=null)).choices[0].text == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (without("choices", 0, "token_ids"), "return_token_ids"),
        (without("choices", 0, "message"), "message"),
        (without("choices", 0, "finish_reason"), "finish_reason"),
        (without("choices"), "no came back"),
        (vllm_answer(choices=vllm_answer()["choices"][:1]), "1 came back"),
        (vllm_answer(choices=[vllm_answer()["choices"][0]] * 2), "indexes"),
        (vllm_answer(choices=["a", "b"]), "not an object"),
        (vllm_answer(prompt_token_ids="1 2 3"), "prompt_token_ids"),
        (vllm_answer(choices=[c | {"token_ids": [1.5]} for c in vllm_answer()["choices"]]), "token_ids"),
        (vllm_answer(choices=[c | {"finish_reason": "tool_calls"} for c in vllm_answer()["choices"]]), "tool_calls"),
        ([], "list"),
    ],
)
def test_answers_out_of_protocol_are_nonsense(answer: Any, words: str) -> None:
    with pytest.raises(EngineNonsense, match=words):
        chat(httpx.Response(200, json=answer))


@pytest.mark.parametrize("content", [b"", b"<html>login</html>", b'{"choices": [', b"\xff\xfe"])
def test_what_is_no_json_is_nonsense(content: bytes) -> None:
    with pytest.raises(EngineNonsense):
        chat(httpx.Response(200, content=content))


def test_an_aborted_request_is_tried_again() -> None:
    aborted = vllm_answer(choices=[c | {"finish_reason": "abort"} for c in vllm_answer()["choices"]])
    with pytest.raises(EngineUnavailable):
        chat(httpx.Response(200, json=aborted))


TOO_LONG = "This model's maximum context length is 512 tokens. However, you requested 700 tokens"


def vllm_error(message: str, kind: str, code: int | str) -> dict[str, Any]:
    """The inner object of an error of vLLM's."""
    return {"message": message, "type": kind, "param": None, "code": code}


REFUSALS = [
    # Hone's engine and OpenAI
    (400, {"error": {"message": "m", "type": "t", "param": "p", "code": "invalid_value"}}, "invalid_value"),
    # vLLM, nested, with the status as code
    (400, {"error": vllm_error(TOO_LONG, "BadRequestError", 400)}, "context_length_exceeded"),
    (404, {"error": vllm_error("The model `v` does not exist.", "NotFoundError", 404)}, "model_not_found"),
    # vLLM before 0.10, flat
    (400, {"object": "error"} | vllm_error(TOO_LONG, "BadRequestError", 400), "context_length_exceeded"),
    # vLLM's and other servers' authentication, FastAPI's own errors, a proxy's
    (401, {"error": "Unauthorized"}, "unauthorized"),
    (403, {}, "forbidden"),
    (404, {"detail": "Not Found"}, "not_found"),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "wrong", "type": "int"}]}, "refused"),
    (413, None, "refused"),
    # a version that no retry mends
    (500, {"error": vllm_error("differs", "server_error", "version_damaged")}, "version_damaged"),
]


@pytest.mark.parametrize(("status", "body", "code"), REFUSALS)
def test_refusals(status: int, body: Any, code: str) -> None:
    response = httpx.Response(status, json=body) if body is not None else httpx.Response(status, text="too large")
    with pytest.raises(EngineRefused) as caught:
        chat(response)
    assert caught.value.code == code
    assert str(status) in caught.value.message


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Internal Server Error",
        b'{"error": {"message": "EngineCore died", "type": "InternalServerError", "param": null, "code": 500}}',
    ],
)
def test_later_may_be_better(status: int, body: bytes) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        chat(httpx.Response(status, content=body, headers={"Retry-After": "7"}))
    assert caught.value.retry_after_seconds == 7
    assert isinstance(caught.value, DomainError)


def test_a_date_to_retry_after_is_no_number() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        chat(httpx.Response(503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}))
    assert caught.value.retry_after_seconds is None


HALF = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{"choices": ['
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cho\r\n'


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200", HALF, CHUNKED, b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_a_server_that_dies_in_mid_sentence_is_unavailable(reply: bytes) -> None:
    with server(reply) as url, EngineClient(url) as client, pytest.raises(EngineUnavailable, match="POST"):
        client.chat("v", MESSAGES, Sampling(), n=1, seed=0)


@pytest.mark.parametrize("reply", [b"", HALF])
def test_a_server_that_falls_silent_is_unavailable(reply: bytes) -> None:
    with (
        server(reply, hold=True) as url,
        EngineClient(url, timeout_seconds=0.2) as client,
        pytest.raises(EngineUnavailable, match="timed out"),
    ):
        client.chat("v", MESSAGES, Sampling(), n=1, seed=0)


def test_nobody_there_is_unavailable_and_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with EngineClient(f"http://127.0.0.1:{port}") as client:
        assert client.health() is False
        with pytest.raises(EngineUnavailable, match=str(port)):
            client.models()


def test_health_is_the_status() -> None:
    assert client_of(httpx.Response(200)).health() is True
    assert client_of(httpx.Response(503)).health() is False


def test_models_are_names() -> None:
    card = {"id": "v", "object": "model", "created": 1, "owned_by": "vllm", "root": "/models/v", "parent": None}
    assert client_of(httpx.Response(200, json={"object": "list", "data": [card, {"object": "model"}]})).models() == [
        "v"
    ]
    with pytest.raises(EngineNonsense):
        client_of(httpx.Response(200, json={"object": "list"})).models()


def test_loading_twice_and_unloading_what_is_not_there_are_fine() -> None:
    """vLLM answers both with an error."""
    twice = {
        "error": {"message": "The lora adapter 'v' has already been loaded.", "type": "InvalidUserInput", "code": 400}
    }
    gone = {"error": {"message": "The lora adapter 'v' cannot be found.", "type": "NotFoundError", "code": 404}}
    client_of(httpx.Response(400, json=twice)).load("v", "/versions/v")
    client_of(httpx.Response(404, json=gone)).unload("v")
    client_of(httpx.Response(200, text="Success: LoRA adapter 'v' added successfully.")).load("v")
    with pytest.raises(EngineRefused):
        client_of(httpx.Response(404, json={"detail": "Not Found"})).load("v", "/versions/v")
    with pytest.raises(EngineUnavailable):
        client_of(httpx.Response(503)).unload("v")


def test_tokenize_reads_vllms_answer() -> None:
    answer = {"count": 3, "max_model_len": 512, "tokens": [1, 7, 8], "token_strs": None}
    assert client_of(httpx.Response(200, json=answer)).tokenize("v", MESSAGES) == (3, 512)
    with pytest.raises(EngineNonsense):
        client_of(httpx.Response(200, json={"tokens": []})).tokenize("v", MESSAGES)


def test_sleep_and_wake() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.path}")
        return httpx.Response(200, json={"is_sleeping": True}) if "is_" in request.url.path else httpx.Response(200)

    client = client_of(answer)
    client.sleep()
    assert client.is_sleeping()
    client.wake()
    assert seen == ["POST /sleep", "GET /is_sleeping", "POST /wake_up"]
    with pytest.raises(EngineRefused) as caught:
        client_of(httpx.Response(404, json={"detail": "Not Found"})).sleep()
    assert caught.value.code == "not_found"
