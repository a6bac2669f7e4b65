"""The command: every bad input is one line that says what to do, with status 2; what it makes is really there."""

import errno
import io
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine, text

from app.accounts.keys import digest
from app.accounts.passwords import verify_password
from app.cli import main
from app.db.base import utcnow
from app.db.session import make_session_factory, transaction
from app.db.tables import OutboxMessage, Round, Tick
from app.local import doctor, lock
from app.local.lock import DataLock
from app.local.stack import Stack
from app.settings import Settings
from tests.factories import rows


@pytest.fixture
def configured(fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands find this test's database and an empty data directory."""
    monkeypatch.setenv("HONE_DATABASE_URL", fresh_database)
    monkeypatch.setenv("HONE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def hone(*arguments: str) -> int:
    """Run a command in this process; its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["up", "--port", "eighty"], "--port"),
        (["up", "--port", "70000"], "65535"),
        (["up", "--host", "no.such.host.invalid"], "--host 127.0.0.1"),
        (["up", "--data", "/dev/null/x"], "choose another with --data"),
        (["nope"], "No such command 'nope'"),
        (["users", "create"], "--email"),
        (["users", "create", "--email", "nonsense"], "name@example.org"),
        (["users", "password", "--email", "who@example.org"], "no account has the address"),
        (["token", "create", "--user", "who@example.org", "--scope", "chat"], "no account has the address"),
        (["export", "--project", "nope"], "there is no project 'nope'"),
        (["export", "--project", "nope", "--format", "csv"], "trl"),
        (["backup", "/proc/hone.tar.gz"], "neither users nor projects"),
        (["restore", "/no/such/file"], "cannot be read"),
    ],
)
def test_bad_input_is_one_line_with_what_to_do(
    configured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert hone(*arguments) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.startswith("hone: ")
    assert said.err.count("\n") == 1, said.err


def test_a_setting_that_means_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HONE_ENGINE_TIMEOUT_SECONDS", "soon")
    assert hone("doctor") == 2
    assert "HONE_ENGINE_TIMEOUT_SECONDS" in capsys.readouterr().err


def test_a_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HONE_DATABASE_URL", "postgresql://hone:secret-word@127.0.0.1:1/hone")
    assert hone("users", "create", "--email", "a@example.org") == 2
    said = capsys.readouterr().err
    assert "HONE_DATABASE_URL" in said
    assert "secret-word" not in said
    assert said.count("\n") == 1


def test_an_account_with_a_password_made_up_then_another_from_standard_input(
    configured: Path, fresh_engine: Engine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hone("users", "create", "--email", "Ann@Example.org", "--admin", "--name", "Ann") == 0
    made_up = capsys.readouterr().out.splitlines()[-1]
    row = text("select password_hash, is_site_admin, name from users where email = 'ann@example.org'")
    with fresh_engine.connect() as connection:
        hashed, is_admin, name = connection.execute(row).one()
    assert (is_admin, name) == (True, "Ann")
    assert verify_password(hashed, made_up)

    monkeypatch.setattr("sys.stdin", io.StringIO("a very good password\n"))
    assert hone("users", "password", "--email", "ann@example.org", "--password-stdin") == 0
    assert "a very good password" not in capsys.readouterr().out
    with fresh_engine.connect() as connection:
        assert verify_password(connection.execute(row).one()[0], "a very good password")

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert hone("users", "password", "--email", "ann@example.org", "--password-stdin") == 2


def test_a_token_is_the_last_line_and_only_its_hash_is_kept(
    configured: Path, fresh_engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    with transaction(make_session_factory(fresh_engine)) as db:
        rows.make_user(db, email="bob@example.org")
    arguments = ["--user", "bob@example.org", "--scope", "votes:write", "--scope", "chat", "--expires-days", "30"]
    assert hone("token", "create", *arguments) == 0
    secret = capsys.readouterr().out.splitlines()[-1]
    with fresh_engine.connect() as connection:
        hashed, scopes, days = connection.execute(
            text("select token_hash, scopes, expires_at - now() > interval '29 days' from api_tokens")
        ).one()
    assert hashed == digest(secret)
    assert set(scopes) == {"votes:write", "chat"}
    assert days
    assert hone("token", "create", "--user", "bob@example.org", "--scope", "everything") == 2
    assert "Choose among" in capsys.readouterr().err


def test_export_writes_a_line_for_each_choice_and_never_over_a_file(
    configured: Path, fresh_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with transaction(make_session_factory(fresh_engine)) as db:
        project = rows.make_project(db, slug="tone")
        comparison = rows.make_comparison(db, project)
        rows.make_vote(db, comparison, choice="a")
    target = tmp_path / "out.jsonl"
    assert hone("export", "--project", "tone", "--format", "trl", "--output", str(target)) == 0
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [set(line) for line in lines] == [{"prompt", "chosen", "rejected", "split", "adjudicated"}]
    assert hone("export", "--project", "tone", "--output", str(target)) == 2
    assert "exists already" in capsys.readouterr().err
    assert hone("export", "--project", "tone", "--format", "arena") == 0
    assert json.loads(capsys.readouterr().out)["winner"] == "model_a"
    assert hone("export", "--project", "tone", "--split", "eval") == 0
    assert capsys.readouterr().out == ""


SECRET = "pa55word"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HONE_DATABASE_URL", f"postgres//:{SECRET}@bad", "postgresql://user:password@host:5432/name"),
        ("HONE_DATABASE_URL", f"mysql://x:{SECRET}@y", "postgresql://"),
        ("HONE_DATABASE_URL", f"postgresql://u:{SECRET}@host:port/hone", "postgresql://"),
        ("HONE_REDIS_URL", f"redsi://:{SECRET}@x", "redis://"),
        ("HONE_REDIS_URL", f"redis://:{SECRET}@x:port/0", "redis://"),
        ("HONE_ENGINE_URL", "http://one:8100,two:8100", "http://host:8100"),
        ("HONE_TRUSTED_ORIGINS", "hone.example.org", "https://hone.example.org"),
        ("HONE_TRUSTED_ORIGINS", "[https://hone.example.org]", "JSON list"),
        ("HONE_TRAINER_COMMAND", "python -m x", "JSON list"),
        ("HONE_SECURE_COOKIES", "sure", "boolean"),
    ],
)
def test_a_setting_that_means_nothing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    assert hone("doctor") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"hone: {name}: ")
    assert says in said
    assert said.count("\n") == 1
    assert SECRET not in said, "a password is in a log now"


def test_lists_in_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_TRUSTED_ORIGINS", "https://hone.example.org, https://b.example.org:8443")
    monkeypatch.setenv("HONE_TRAINER_COMMAND", '["python", "-m", "x"]')
    settings = Settings()
    assert settings.trusted_origins == ["https://hone.example.org", "https://b.example.org:8443"]
    assert settings.trainer_command == ["python", "-m", "x"]
    monkeypatch.setenv("HONE_TRUSTED_ORIGINS", '["https://hone.example.org"]')
    monkeypatch.setenv("HONE_TRAINER_COMMAND", "")
    assert Settings().trusted_origins == ["https://hone.example.org"]
    assert Settings().trainer_command == []


def test_doctor_finds_what_is_wrong_and_says_how_to_mend_it(
    configured: Path, fresh_engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hone("doctor") == 1
    assert "does not exist" in capsys.readouterr().out
    configured.mkdir()
    assert hone("doctor") == 0
    capsys.readouterr()
    with transaction(make_session_factory(fresh_engine)) as db:
        project = rows.make_project(db, slug="tone")
        rows.make_version(db, project, number=1, state="current")
        an_hour_ago = utcnow() - timedelta(hours=1)
        db.add(OutboxMessage(task="hone.refill", due_at=an_hour_ago))
        db.add(Tick(id=1, at=an_hour_ago))
        db.add(Round(project_id=project.id, number=1, trigger="button", created_at=an_hour_ago))
    assert hone("doctor", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    wrong = {finding["part"]: finding for finding in report["findings"] if finding["state"] == "wrong"}
    assert set(wrong) == {"beat", "wake-ups", "rounds", "versions"}
    assert "no tick for 36" in wrong["beat"]["seen"]
    assert "waited for 60 min" in wrong["wake-ups"]["seen"]
    assert "tone, round 1: queued" in wrong["rounds"]["seen"]
    assert "tone, version 1" in wrong["versions"]["seen"]
    assert all(finding["mend"] for finding in wrong.values())
    with fresh_engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '0001'"))
    assert hone("doctor") == 1
    assert "hone migrate" in capsys.readouterr().out


def part(capsys: pytest.CaptureFixture[str], name: str) -> dict[str, str]:
    """What the last `hone doctor --json` found out about a part."""
    findings = json.loads(capsys.readouterr().out)["findings"]
    return next(finding for finding in findings if finding["part"] == name)


def test_doctor_tells_a_stop_from_a_death(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock.prepare_data_directory(configured)
    assert hone("doctor", "--json") == 0
    assert part(capsys, "stack")["state"] == "note"
    assert hone("doctor", "--json", "--expect-running") == 1
    assert part(capsys, "stack")["state"] == "wrong"
    with DataLock(configured, "hone backup"):
        assert hone("doctor", "--json", "--expect-running") == 1
        assert "`hone backup`" in part(capsys, "stack")["seen"]
    with DataLock(configured, "hone up"):
        assert hone("doctor", "--json", "--expect-running") == 0
        assert "is starting or stopping" in part(capsys, "stack")["seen"]
    Stack(4711, "", "", "", "", "", "2026-11-23T10:00:00+00:00", ready=True).write(configured)
    assert hone("doctor", "--json") == 1
    left = part(capsys, "stack")
    assert left["state"] == "wrong"
    assert "(pid 4711, since 2026-11-23T10:00:00+00:00) ended without being told to" in left["seen"]


def test_doctor_sees_a_directory_that_cannot_be_written(
    configured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    lock.prepare_data_directory(configured)
    monkeypatch.setattr(lock.os, "fsync", read_only)
    assert hone("doctor", "--json") == 1
    assert "cannot be written (read-only file system)" in part(capsys, "data")["seen"]
    assert not list((configured / "run").iterdir())


def test_doctor_takes_a_redis_that_does_not_show_its_settings(
    configured: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise redis.ResponseError("unknown command 'CONFIG'")

    configured.mkdir()
    monkeypatch.setenv("HONE_REDIS_URL", redis_url)
    monkeypatch.setattr(redis.Redis, "config_get", refused)
    hone("doctor", "--json")
    found = part(capsys, "redis")
    assert (found["state"], "unknown command" in found["seen"]) == ("note", True)


def test_doctor_names_the_nearest_setting_and_cuts_no_line(
    configured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("HONE_DATA", str(long))
    monkeypatch.setenv("HONE_SECURE_COOKIE", "true")
    monkeypatch.setattr(doctor, "abandoned", lambda: {Path("/var/lib/hone/a"): Path("/mnt/a"), Path("/b"): Path("/c")})
    assert hone("doctor") == 0
    said = capsys.readouterr().out
    assert str(long) in said
    assert "HONE_SECURE_COOKIE is no setting and is ignored: did you mean HONE_SECURE_COOKIES?" in said
    assert "gone, or not mounted: /var/lib/hone/a (of /mnt/a), /b (of /c)" in said
    assert "rm -r /var/lib/hone/a /b" in said


def test_help_says_what_hone_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert hone("--help") == 0
    said = capsys.readouterr().out
    for command in ("up", "doctor", "users", "token", "export", "backup", "restore", "train", "simulate", "migrate"):
        assert f" {command} " in said
    assert hone("up", "--help") == 0
    said = capsys.readouterr().out
    for flag in ("--data", "--host", "--port", "--demo", "Ctrl-C"):
        assert flag in said


def test_train_and_simulate_hand_everything_on(tmp_path: Path) -> None:
    def hone_process(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments], check=False, capture_output=True, text=True, cwd=tmp_path
        )

    shown = hone_process("train", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Usage: hone train" in shown.stdout
    assert "--loss" in shown.stdout
    refused = hone_process("train", "--model", "/no/such/model", "--data", "x.jsonl", "--output", "y")
    assert refused.returncode == 2
    assert "/no/such/model" in refused.stderr
    assert "Usage: hone simulate" in hone_process("simulate", "--help").stdout
