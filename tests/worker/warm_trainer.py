"""The trainer for many short rounds: its libraries are loaded once, and every job has a process of its own.

Importing torch, transformers and PEFT takes longer than training a tiny model. ``serve`` imports them and forks for
each job; the forked process is ``python -m worker.trainer`` from there on. ``ask`` is what a worker starts in the
trainer's place, with the trainer's arguments: it hands them over with its output, and ends as the trainer ended.
"""

import json
import os
import socket
import sys
from importlib import import_module

LOADED = ("torch._dynamo", "peft", "transformers.models.llama.modeling_llama", "worker.trainer.job")
"""What a job would import while it runs; importing starts no thread, so that a fork is sound."""


def serve(address: str) -> None:
    """Fork for one job after the other until this process is ended."""
    for name in LOADED:
        import_module(name)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        while True:
            with listening.accept()[0] as connection:
                child = os.fork()
                if child == 0:
                    _train(connection)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                connection.sendall(json.dumps(status).encode())


def _train(connection: socket.socket) -> None:
    from worker.trainer.__main__ import main

    arguments, outputs, _, _ = socket.recv_fds(connection, 65536, 2)
    for number, output in zip((1, 2), outputs, strict=True):
        os.dup2(output, number)
    sys.argv = ["trainer", *json.loads(arguments), "--parent", str(os.getppid())]
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def ask(address: str, arguments: list[str]) -> int:
    """Have a job done; returns the trainer's exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(arguments).encode()], [1, 2])
        return int(json.loads(connection.recv(16)))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(ask(sys.argv[2], sys.argv[3:]))
