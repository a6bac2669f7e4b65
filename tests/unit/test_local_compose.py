"""docker-compose.yml, the Dockerfile and `hone up` start the same programs, and nothing secret has a default."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.db.migrations import ROOT
from app.local import commands
from app.settings import Settings
from tests import aside

TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("migrate", "web", "worker", "beat", "engine")
OTHERS_VARIABLES = {"FORWARDED_ALLOW_IPS", "NUMBA_CACHE_DIR"}
"""Uvicorn's and numba's."""
SET_BY_COMPOSE = {"host", "port", "web_processes"}
"""The commands say where the web server listens, and how many processes it has."""
SECRETS = ("HONE_POSTGRES_PASSWORD", "HONE_REDIS_PASSWORD", "HONE_ENGINE_SECRET")


def plain(command: list[str]) -> list[str]:
    """The command as it is in the image, where the interpreter is on the PATH."""
    return ["python", *command[1:]]


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("web", commands.web("0.0.0.0", 8000)),
        ("worker", commands.worker()),
        ("beat", commands.beat(Path("/data/run/celerybeat-schedule"))),
        ("engine", commands.engine(Path("/data/versions"), "0.0.0.0", 8100)),
        ("migrate", commands.migrate()),
    ],
)
def test_a_service_runs_what_hone_up_runs(service: str, command: list[str]) -> None:
    assert SERVICES[service]["command"] == plain(command)


def test_the_parts_are_all_there_and_wait_for_each_other() -> None:
    assert set(SERVICES) == {"postgres", "redis", *OURS}
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_completed_successfully":
                assert needed == "migrate"
            else:
                assert how["condition"] == "service_healthy"
                assert "healthcheck" in SERVICES[needed], f"{name} waits for the health of {needed}, which has none"
        assert ("healthcheck" in service) == (name != "migrate")
    volumes = {mount.split(":")[0] for service in SERVICES.values() for mount in service["volumes"]}
    assert volumes == set(COMPOSE["volumes"])


def test_settings_exist_and_point_at_the_other_services() -> None:
    for name in OURS:
        environment = SERVICES[name]["environment"]
        for variable in environment.keys() - OTHERS_VARIABLES:
            assert variable.removeprefix("HONE_").lower() in Settings.model_fields, variable
        hosts = re.findall(r"//(?:[^@/]*@)?([a-z]+):\d+", " ".join(map(str, environment.values())))
        assert hosts == ([] if name == "engine" else ["postgres", "redis", "engine"])


def test_every_setting_can_be_set_in_env() -> None:
    reached = {variable.removeprefix("HONE_").lower() for variable in SERVICES["web"]["environment"]}
    assert set(Settings.model_fields) - reached == SET_BY_COMPOSE


def test_the_engine_knows_no_password_and_keeps_what_it_compiled() -> None:
    engine = SERVICES["engine"]
    assert engine["environment"].keys() == {"HONE_ENGINE_SECRET", "HONE_LOG_FORMAT", "NUMBA_CACHE_DIR"}
    assert f"cache:{engine['environment']['NUMBA_CACHE_DIR']}" in engine["volumes"]
    assert "--owner=hone --group=hone --mode=0700 /data /cache" in (ROOT / "Dockerfile").read_text()


def test_requests_may_end_before_the_web_server_is_killed() -> None:
    command = SERVICES["web"]["command"]
    drained = int(command[command.index("--timeout-graceful-shutdown") + 1])
    assert int(SERVICES["web"]["stop_grace_period"].removesuffix("s")) >= drained + 5


def test_no_secret_has_a_default_and_every_variable_is_in_the_example() -> None:
    example = dict(
        line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line and line[0] != "#"
    )
    for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", TEXT):
        assert name in example, f"{name} is not in .env.example"
        if name in SECRETS:
            assert rest.startswith(":?"), f"{name} must be asked for"
            assert example[name] == ""


def test_the_example_believes_the_proxy_and_not_what_clients_make_up() -> None:
    """A client that sends X-Forwarded-For itself; the proxy, on the network that Compose made, adds who that was."""
    believed = re.search(r"^# FORWARDED_ALLOW_IPS=(.+)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert believed
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["client"][0])

    for proxy in ("172.18.0.1", "203.0.113.50"):
        headers = [(b"x-forwarded-for", b"198.51.100.1, 203.0.113.9")]
        scope: Any = {"type": "http", "client": (proxy, 5000), "headers": headers}
        aside.run(ProxyHeadersMiddleware(app, believed[1])(scope, None, None))  # type: ignore[arg-type]
    assert seen == ["203.0.113.9", "203.0.113.50"]


def test_logs_of_no_part_grow_without_end() -> None:
    for name, service in SERVICES.items():
        assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "4"}}, name


def test_images_are_pinned_and_ours_cannot_do_more_than_they_need() -> None:
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[a-z]+:\d[\w.-]+", service["image"]), service["image"]
        if name in OURS:
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]


def test_redis_keeps_what_it_is_told() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_the_image_is_built_from_files_that_are_there_and_runs_as_nobody_special() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        part for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE) for part in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source.removeprefix("./") in allowed, f"{source} is left out by .dockerignore"
    assert re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE) == ["hone"]
    command = re.search(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert command is not None
    assert json.loads(command[1]) == plain(commands.web("0.0.0.0", 8000))
