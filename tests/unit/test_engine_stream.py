"""Streams as vLLM documents them, cut anywhere, broken off anywhere, over real sockets."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from app.engine.asynchronous import AsyncEngineClient
from app.engine.client import EngineClient, EngineNonsense, EngineRefused, EngineUnavailable, Piece, Sampled, Sampling
from tests import aside
from tests.unit.engine_servers import STREAM_END, STREAM_HEAD, chunked, server

MESSAGES = [{"role": "user", "content": "hello"}]
DONE = b"data: [DONE]\n\n"


def event(*choices: dict[str, Any], **fields: Any) -> bytes:
    """One event of vLLM's; like vLLM, it does not escape what is not ASCII."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "v"}
    return f"data: {json.dumps(head | {'choices': list(choices)} | fields, ensure_ascii=False)}\n\n".encode()


def gained(index: int, text: str | None, ids: list[int] | None, reason: str | None = None) -> dict[str, Any]:
    """One choice of an event."""
    return {
        "index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": reason, "token_ids": ids,
    }  # fmt: skip


ROLES = event(
    *({"index": i, "delta": {"role": "assistant", "content": ""}, "finish_reason": None} for i in (0, 1)),
    prompt_token_ids=[1, 7, 8],
)
PARTS = [
    ROLES,
    event(gained(0, "Hé\u2028y", [40, 41])),
    event(gained(1, "One", [50])),
    event(gained(1, None, [51])),
    event(gained(0, "\x85.", [42, 2], "stop")),
    event(gained(1, " two", [52], "length")),
    event(usage={"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}),
    DONE,
]
ANSWER = [("Hé\u2028y\x85.", [40, 41, 42, 2], "stop"), ("One two", [50, 51, 52], "length")]


def reply(parts: Sequence[bytes], end: bytes = STREAM_END) -> list[bytes]:
    return [STREAM_HEAD, *map(chunked, parts), end]


def drink(url: str, n: int = 2, timeout_seconds: float = 20) -> tuple[list[Piece], Sampled, list[int]]:
    with EngineClient(url, timeout_seconds=timeout_seconds) as client:
        with client.stream("v", MESSAGES, Sampling(), n=n, seed=1) as stream:
            pieces = list(stream)
        return pieces, stream.sampled(), stream.prompt_ids


async def drink_async(url: str) -> tuple[list[Piece], Sampled, list[int]]:
    async with AsyncEngineClient(url, timeout_seconds=20) as client:
        async with client.stream("v", MESSAGES, Sampling(), n=2, seed=1) as stream:
            pieces = [piece async for piece in stream]
        return pieces, stream.sampled(), stream.prompt_ids


def summary(sampled: Sampled) -> list[tuple[str, list[int], str]]:
    return [(choice.text, choice.token_ids, choice.finish_reason) for choice in sampled.choices]


def test_a_stream_is_the_answer_in_pieces() -> None:
    with server(*reply(PARTS)) as url:
        pieces, sampled, prompt_ids = drink(url)
    assert pieces == [
        Piece(0, "Hé\u2028y", [40, 41], None),
        Piece(1, "One", [50], None),
        Piece(1, "", [51], None),
        Piece(0, "\x85.", [42, 2], "stop"),
        Piece(1, " two", [52], "length"),
    ]
    assert (summary(sampled), prompt_ids) == (ANSWER, [1, 7, 8])


def test_on_an_event_loop_it_is_the_same() -> None:
    with server(*reply(PARTS)) as url:
        found = aside.run(drink_async(url))
    with server(*reply(PARTS)) as url:
        assert found == drink(url)


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_it_may_be_cut_anywhere(size: int) -> None:
    """In the middle of characters, lines and events; with comments and line ends as proxies send them."""
    whole = b": keep-alive\n\n" + b"".join(PARTS).replace(b"\n\n", b"\r\n\r\n")
    with server(*reply([whole[at : at + size] for at in range(0, len(whole), size)])) as url:
        _, sampled, _ = drink(url)
    assert summary(sampled) == ANSWER


@pytest.mark.parametrize("kept", range(len(PARTS) - 2))
@pytest.mark.parametrize("end", [STREAM_END, b""])
def test_half_a_stream_is_not_an_answer(kept: int, end: bytes) -> None:
    """Whether the connection breaks or the server ends the body politely; what came before was handed out."""
    pieces = []
    with server(*reply(PARTS[:kept], end)) as url, EngineClient(url) as client:  # noqa: SIM117
        with client.stream("v", MESSAGES, Sampling(), n=2, seed=1) as stream:
            with pytest.raises(EngineUnavailable):
                pieces += stream
            with pytest.raises(EngineUnavailable):
                stream.sampled()
    assert len(pieces) == max(kept - 1, 0)


def test_a_finished_stream_needs_no_goodbye() -> None:
    """Some servers end the body without [DONE]; every completion said that it is finished."""
    with server(*reply(PARTS[:-1])) as url:
        assert summary(drink(url)[1]) == ANSWER


def test_a_stream_that_falls_silent_is_unavailable() -> None:
    with (
        server(*reply(PARTS[:3], b""), hold=True) as url,
        pytest.raises(EngineUnavailable, match="timed out"),
    ):
        drink(url, timeout_seconds=0.3)


def test_after_goodbye_nothing_is_waited_for() -> None:
    with server(*reply(PARTS, b""), hold=True) as url:
        assert summary(drink(url)[1]) == ANSWER


def failing(error: Any) -> bytes:
    return f"data: {json.dumps(error)}\n\n".encode()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ({"error": {"message": "EngineCore died", "type": "E", "code": 500}}, EngineUnavailable, "EngineCore died"),
        ({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, EngineRefused, "bad"),
        ({"error": {"message": "no numbers", "type": "t", "code": "not_finite"}}, EngineRefused, "no numbers"),
        ({"error": {"message": "stopping", "type": "t", "code": "stopping"}}, EngineUnavailable, "stopping"),
        ({"error": "gone"}, EngineUnavailable, "gone"),
    ],
)
def test_an_error_in_mid_stream(error: Any, kind: type[Exception], words: str) -> None:
    with server(*reply([*PARTS[:3], failing(error), DONE])) as url, pytest.raises(kind, match=words):
        drink(url)


@pytest.mark.parametrize(
    "part",
    [
        b"data: {half\n\n",
        b"data: [1]\n\n",
        event(gained(2, "who?", [1])),
        event(gained(0, "x", [-1])),
        event(gained(0, "x", [1], "tool_calls")),
        event({"index": 0, "delta": {"content": 5}}),
        event({"index": 0, "text": "plain"}),
        b'data: {"choices": 3}\n\n',
    ],
)
def test_events_out_of_protocol_are_nonsense(part: bytes) -> None:
    with server(*reply([*PARTS[:3], part, DONE])) as url, pytest.raises(EngineNonsense):
        drink(url)


def test_aborted_is_unavailable() -> None:
    with server(*reply([*PARTS[:3], event(gained(0, "", [], "abort")), DONE])) as url, pytest.raises(EngineUnavailable):
        drink(url)


def test_without_token_ids_people_can_read_and_nothing_is_trained_on() -> None:
    """As SGLang streams."""
    parts = [event(gained(0, "Hi", None)), event(gained(0, ".", None, "stop")), DONE]
    with server(*reply(parts)) as url, EngineClient(url) as client:  # noqa: SIM117
        with client.stream("v", MESSAGES, Sampling(), n=1, seed=1) as stream:
            assert "".join(piece.text for piece in stream) == "Hi."
            with pytest.raises(EngineNonsense, match="token ids"):
                stream.sampled()


def refusing(status: str, body: bytes, headers: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 " + status.encode() + b"\r\nContent-Type: application/json\r\nContent-Length: "
        + str(len(body)).encode() + b"\r\n" + headers + b"\r\n" + body
    )  # fmt: skip


def test_what_is_refused_is_refused_before_the_first_piece() -> None:
    missing = b'{"error": {"message": "The model `v` does not exist.", "type": "NotFoundError", "code": 404}}'
    with (
        server(refusing("404 Not Found", missing)) as url,
        EngineClient(url) as client,
        pytest.raises(EngineRefused) as refused,
        client.stream("v", MESSAGES, Sampling(), n=1, seed=1),
    ):
        pytest.fail("entered a stream that was refused")
    assert refused.value.code == "model_not_found"
    with (
        server(refusing("429 Too Many Requests", b"{}", b"Retry-After: 3\r\n")) as url,
        pytest.raises(EngineUnavailable) as full,
    ):
        aside.run(drink_async(url))
    assert full.value.retry_after_seconds == 3


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_a_server_that_dies_before_it_streams(data: bytes) -> None:
    with server(data) as url, pytest.raises(EngineUnavailable, match="POST"):
        drink(url)
