"""``python -m worker.engine --versions DIR --port N``: start the sampling engine."""

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from app import logs
from worker.onednn import PROGRAMS

_SECRET = "HONE_ENGINE_SECRET"  # noqa: S105 - the name of the variable, not the secret


def main(arguments: list[str] | None = None) -> int:
    """Parse, check, bind, serve until SIGTERM or SIGINT. Returns the exit code. A start that is refused changes nothing
    of this process."""
    options = _parser().parse_args(arguments)
    secret = os.environ.get(_SECRET, "")
    if not secret and not _is_loopback(options.host):
        return _refuse(f"{options.host} can be reached from outside: set {_SECRET}, or listen on 127.0.0.1")
    if not options.versions.is_dir():
        return _refuse(f"--versions {options.versions}: there is no such directory")
    try:
        listener = _bind(options.host, options.port)
    except OSError as error:
        return _refuse(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}")
    _serve(options, secret, listener)
    return 0


def _serve(options: argparse.Namespace, secret: str, listener: socket.socket) -> None:
    logs.configure(level=logging.getLevelNamesMapping()[options.log_level.upper()])
    # Read when torch is first imported. Threads that spin while they wait for each other are a little faster on an
    # idle machine and many times slower on one that also serves web pages, a worker and a database.
    os.environ.update({"OMP_WAIT_POLICY": "passive"} | PROGRAMS | os.environ)
    import torch
    import uvicorn

    from worker.engine.compiled.crew import crew
    from worker.engine.engine import Engine
    from worker.engine.options import Options, resolve_budget, resolve_device, resolve_dtype
    from worker.engine.server import create_app

    if options.threads is not None:
        torch.set_num_threads(options.threads)
        crew.size = options.threads
    device = resolve_device(options.device)
    resolved = Options(
        versions=options.versions,
        dtype=resolve_dtype(options.dtype, device),
        device=device,
        memory_budget_bytes=resolve_budget(options.memory_budget_mb, device),
        max_batch=options.max_batch,
        max_queue=options.max_queue,
    )
    host, port = listener.getsockname()[:2]
    logging.getLogger("worker.engine").info(
        "engine.start url=http://%s:%d versions=%s device=%s dtype=%s threads=%d budget_mb=%d max_batch=%d "
        "max_queue=%d secret=%s",
        host, port, resolved.versions, device, resolved.dtype, torch.get_num_threads(),
        resolved.memory_budget_bytes // 2**20, resolved.max_batch, resolved.max_queue, "yes" if secret else "no",
    )  # fmt: skip
    sys.stdout.write(f"listening on http://{host}:{port}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        create_app(Engine(resolved), secret),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=options.drain_seconds,
    )
    # Uvicorn repeats the signal that ended it once it is done; by then there is nothing left to end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    uvicorn.Server(config).run(sockets=[listener])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker.engine",
        description="Sample from Hone's versions over an OpenAI-compatible API.",
        epilog=f"The environment variable {_SECRET} is the bearer secret clients must send; without one the engine "
        "listens on loopback only.",
    )
    parser.add_argument("--versions", type=Path, required=True, help="directory with one directory per version")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100, help="0 takes a free one and prints it")
    parser.add_argument("--dtype", choices=["auto", "fp32", "bf16"], default="auto", help="auto: fp32 on a CPU")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--memory-budget-mb", type=_positive, help="weights and KV of all versions together")
    parser.add_argument("--max-batch", type=_positive, default=64, help="completions of a version that run at once")
    parser.add_argument("--max-queue", type=_positive, default=1024, help="completions in flight before 429")
    parser.add_argument("--threads", type=_positive, help="CPU threads of a matrix product")
    parser.add_argument("--drain-seconds", type=int, default=5, help="how long SIGTERM waits for running requests")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return number


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _refuse(message: str) -> int:
    sys.stderr.write(f"engine: {message}\n")
    return 2


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit, which would wait for the loader's thread: a version half loaded must not hold up the end.
    os._exit(code)
