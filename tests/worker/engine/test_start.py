"""What the command refuses before it serves anything."""

import socket
from pathlib import Path

import pytest

from worker.engine.__main__ import main


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_outside_addresses_need_a_secret(versions: Path, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--versions", str(versions), "--host", host, "--port", "0"]) == 2
    assert "HONE_ENGINE_SECRET" in capsys.readouterr().err


def test_a_taken_port_is_a_clear_error(versions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--versions", str(versions), "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"127.0.0.1:{port}" in error
    assert "in use" in error


def test_a_missing_directory_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--versions", str(tmp_path / "none")]) == 2
    assert "no such directory" in capsys.readouterr().err
