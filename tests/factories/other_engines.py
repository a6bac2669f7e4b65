"""A server that answers as vLLM or SGLang document it, and remembers what it was asked: no model behind it.

It keeps adapters, counts what runs, and fails as it is told. Written from vLLM's and SGLang's documentation and the
shapes of their routes; neither was run.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_END = 2
_WORDS = ["river", "boat", "tea", "bread", "lantern", "harbour", "winter", "orchard", "copper", "letter"]


class Listening(ThreadingHTTPServer):
    """Takes as many connections at once as a refill makes: with five waiting at most, some are reset under load."""

    request_queue_size = 128


class OtherEngine:
    """One server with one base model; ``kind`` is whose dialect it speaks."""

    def __init__(self, base: str, kind: str = "vllm") -> None:
        self.base, self.kind = base, kind
        self.adapters: dict[str, str] = {}
        self.asked: list[tuple[str, str, int]] = []
        """Model, last message and seed of each chat that was answered whole."""
        self.calls: list[str] = []
        self.running: Counter[str] = Counter()
        self.go_on = threading.Event()
        self.go_on.set()
        self.faults: list[Any] = []
        """What the next chats get instead of an answer: (status, body), "half", "hang up", or a field to leave out."""
        self.load_faults: list[tuple[int, Any]] = []
        self.tells_of_work = True
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                engine.calls.append(self.path)
                engine.get(self)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
                engine.calls.append(self.path)
                engine.post(self, body)

        self._server = Listening(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # Routes

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/health":
            reply(handler, 200, b"")
        elif handler.path == "/v1/models":
            cards = [{"id": self.base, "object": "model", "owned_by": self.kind, "root": "/m", "parent": None}]
            cards += [
                {"id": name, "object": "model", "owned_by": self.kind, "root": path, "parent": self.base}
                for name, path in self.adapters.items()
            ]
            reply(handler, 200, {"object": "list", "data": cards})
        elif handler.path == "/metrics" and self.tells_of_work:
            now = ",".join(name for name, count in self.running.items() if count and name != self.base)
            labels = f'max_lora="4",running_lora_adapters="{now}",waiting_lora_adapters=""'
            stale = 'max_lora="4",running_lora_adapters="long-ago",waiting_lora_adapters=""'
            text = f"vllm:lora_requests_info{{{stale}}} 1.7e+09\nvllm:lora_requests_info{{{labels}}} 1.8e+09\n"
            reply(handler, 200, text.encode())
        else:
            reply(handler, 404, {"detail": "Not Found"})

    def post(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        prefix = "" if self.kind == "sglang" else "/v1"
        if handler.path == "/v1/chat/completions":
            self._chat(handler, body)
        elif handler.path == f"{prefix}/load_lora_adapter":
            reply(handler, *self._load(body["lora_name"], body.get("lora_path", "")))
        elif handler.path == f"{prefix}/unload_lora_adapter":
            reply(handler, *self._unload(body["lora_name"]))
        else:
            reply(handler, 404, {"detail": "Not Found"})

    def _load(self, name: str, path: str) -> tuple[int, Any]:
        if self.load_faults:
            return self.load_faults.pop(0)
        if name in self.adapters:
            return self._adapter_error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (Path(path) / "adapter_config.json").is_file():
            return self._adapter_error(404, f"Loading lora {name} failed: No adapter found for {path}")
        self.adapters[name] = path
        said = f"Success: LoRA adapter '{name}' added successfully."
        return 200, said.encode() if self.kind == "vllm" else {"success": True, "loaded_adapters": self.adapters}

    def _unload(self, name: str) -> tuple[int, Any]:
        if self.adapters.pop(name, None) is None:
            return self._adapter_error(404, f"The lora adapter '{name}' cannot be found.")
        return 200, b"Success" if self.kind == "vllm" else {"success": True, "loaded_adapters": self.adapters}

    def _adapter_error(self, status: int, message: str) -> tuple[int, Any]:
        if self.kind == "sglang":
            return 400, {"success": False, "error_message": message, "loaded_adapters": self.adapters}
        return status, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}

    def _chat(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        model = self._model(body["model"])
        if model is None:
            reply(handler, *self._unknown(body["model"]))
            return
        if self.kind == "sglang" and body.get("stream") and body.get("return_token_ids"):
            message = "return_token_ids is not supported with streaming on /v1/chat/completions."
            flat = {"object": "error", "message": message, "type": "BadRequest", "param": None, "code": 400}
            reply(handler, 400, flat)
            return
        self.running[model] += 1
        try:
            self.go_on.wait(30)
            self._answer(handler, body, model)
        finally:
            self.running[model] -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], model: str) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, tuple):
            reply(handler, *fault)
            return
        answer = self._said(body, model)
        if fault == "half":
            whole = json.dumps(answer).encode()
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(whole)))
            handler.end_headers()
            handler.wfile.write(whole[: len(whole) // 2])
            handler.close_connection = True
        elif fault == "hang up":
            handler.close_connection = True
        elif fault is not None:
            for choice in answer["choices"]:
                choice.pop(fault, None)
            reply(handler, 200, answer)
        else:
            self.asked.append((model, body["messages"][-1]["content"], body["seed"]))
            reply(handler, 200, answer)

    def _model(self, name: str) -> str | None:
        """vLLM knows names; SGLang takes BASE:ADAPTER, and its own model for whatever else it is asked for."""
        if self.kind == "vllm":
            return name if name == self.base or name in self.adapters else None
        adapter = name.partition(":")[2]
        return self.base if not adapter else adapter if adapter in self.adapters else None

    def _unknown(self, name: str) -> tuple[int, Any]:
        if self.kind == "vllm":
            message = f"The model `{name}` does not exist."
            return 404, {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}}
        message = f"The following requested LoRA adapters are not loaded: {name}\nLoaded adapters: {self.adapters}."
        return 400, {"object": "error", "message": message, "type": "BadRequest", "param": None, "code": 400}

    def _said(self, body: dict[str, Any], model: str) -> dict[str, Any]:
        choices = []
        for index in range(body["n"]):
            drawn = random.Random(f"{model} {body['seed']} {index}").choices(range(10), k=8)
            choice: dict[str, Any] = {
                "index": index, "finish_reason": "stop", "token_ids": [*(10 + i for i in drawn), _END],
                "message": {"role": "assistant", "content": " ".join(_WORDS[i] for i in drawn)},
            }  # fmt: skip
            choices.append(choice | ({"prompt_token_ids": [1, 5]} if self.kind == "sglang" else {}))
        top = {} if self.kind == "sglang" else {"prompt_token_ids": [1, 5]}
        return {"id": "c", "object": "chat.completion", "model": body["model"], "choices": choices} | top


def reply(handler: BaseHTTPRequestHandler, status: int, body: Any) -> None:
    """Send a whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def other_engine(base: str, kind: str = "vllm") -> Iterator[OtherEngine]:
    """A server for the length of a block."""
    engine = OtherEngine(base, kind)
    try:
        yield engine
    finally:
        engine.close()
