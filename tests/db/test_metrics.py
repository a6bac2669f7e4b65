"""What Prometheus reads: how the installation stands, what was asked of it, and who may know."""

import asyncio
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import text, update

from app.db.base import utcnow
from app.db.ids import new_id
from app.db.migrations import ROOT
from app.db.session import transaction
from app.db.tables import Project, Round
from app.journal import outbox, ticks
from app.local import commands
from app.local.process import spawn, stop
from app.local.supervisor import counting_together
from app.main import create_app
from app.settings import Settings
from tests import aside
from tests.fixtures.portal import Portal


def samples(page: str) -> dict[str, float]:
    """Values by name and labels, as they are written."""
    lines = [line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.fixture
def here(portal: Portal) -> Iterator[TestClient]:
    """A scraper on this machine."""
    with TestClient(portal.app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50_000)) as client:
        yield client


def test_it_says_how_the_installation_stands(portal: Portal, here: TestClient) -> None:
    ann = portal.user("ann@example.org", is_site_admin=True)
    project = portal.project("Secret letters", ann)
    with transaction(portal.factory) as db:
        ticks.record(db)
        outbox.enqueue(db, "hone.run_rounds")
        db.execute(text("update outbox set created_at = created_at - interval '1 hour'"))
        db.execute(update(Project).values(refill_failures=3, refill_lease_until=utcnow() - timedelta(minutes=1)))
        db.add(
            Round(
                project_id=project.id,
                number=0,
                trigger="button",
                state="training",
                lease_token=new_id(),
                lease_expires_at=utcnow() + timedelta(seconds=10),
            )
        )
    portal.browser(ann).get(f"/p/{project.slug}/rounds")
    page = here.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=")
    found = samples(page.text)
    assert found["hone_database_up"] == 1
    assert 0 <= found["hone_tick_age_seconds"] < 60
    assert found['hone_rounds{state="training"}'] == 1
    assert 19 < found["hone_round_silence_seconds"] < 40
    assert found["hone_outbox_messages"] == 1
    assert 3600 <= found["hone_outbox_oldest_age_seconds"] < 3700
    assert found['hone_expired_leases{of="refill"}'] == 1
    assert (found["hone_refill_failing_projects"], found["hone_refill_failures_in_a_row"]) == (1, 3)
    assert found["hone_engine_up"] == 0
    assert found["hone_data_free_bytes"] > 0
    assert found['hone_http_requests_total{method="GET",route="/p/{slug}/rounds",status="2xx"}'] == 1
    assert found['hone_http_request_duration_seconds_count{method="GET",route="/p/{slug}/rounds"}'] == 1
    assert found["hone_database_connections_limit"] == 8
    for private in (project.slug, str(ann.id), "example.org"):
        assert private not in page.text


def test_addresses_that_lead_nowhere_are_one_route(here: TestClient) -> None:
    for number in range(5):
        here.get(f"/nowhere/{number}")
    here.request("BREW", "/nowhere/9")
    found = [name for name in samples(here.get("/metrics").text) if name.startswith("hone_http_requests_total")]
    assert sorted(found) == [
        'hone_http_requests_total{method="GET",route="-",status="4xx"}',
        'hone_http_requests_total{method="other",route="-",status="4xx"}',
    ]


def test_without_a_token_this_machine_alone_reads_it(portal: Portal, here: TestClient) -> None:
    assert here.get("/metrics").status_code == 200
    assert here.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 404
    assert here.get("/metrics", headers={"X-Real-IP": "192.0.2.7"}).status_code == 404
    with TestClient(portal.app, base_url="http://127.0.0.1:8000", client=("192.0.2.7", 50_000)) as elsewhere:
        assert elsewhere.get("/metrics").status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8102", 200),
        ("[::1]:8102", 200),
        ("127.0.0.1", 200),
        ("hone.example.org", 404),
        ("127.0.0.1.example.org", 404),
    ],
)
def test_without_a_token_it_has_no_name_but_this_machines(here: TestClient, host: str, status: int) -> None:
    """A proxy that says nothing of itself, or a page whose name leads its reader's browser back to loopback."""
    assert here.get("/metrics", headers={"Host": host}).status_code == status


def test_with_a_token_whoever_has_it(portal: Portal, here: TestClient) -> None:
    portal.app.state.settings = portal.settings.model_copy(update={"metrics_token": SecretStr("sesame")})
    assert here.get("/metrics").status_code == 401
    assert here.get("/metrics", headers={"Authorization": "Bearer sesam"}).status_code == 401
    with TestClient(portal.app, client=("192.0.2.7", 50_000)) as elsewhere:
        known = {"Authorization": "Bearer sesame", "X-Forwarded-For": "192.0.2.7"}
        assert samples(elsewhere.get("/metrics", headers=known).text)["hone_database_up"] == 1


def test_a_database_that_says_nothing_is_left_out_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        app = create_app(Settings(database_url=f"postgresql://hone@127.0.0.1:{port}/hone", data=tmp_path))

        async def scrape() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await asyncio.wait_for(client.get("/metrics"), 10)

        began = time.monotonic()
        page = aside.run(scrape())
    assert time.monotonic() - began < 4
    found = samples(page.text)
    assert (found["hone_database_up"], found["hone_engine_up"]) == (0, 0)
    assert "hone_outbox_messages" not in found
    assert "hone_data_free_bytes" in found


def test_processes_on_one_port_count_together(fresh_database: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {"HONE_DATABASE_URL": fresh_database, "HONE_DATA": str(tmp_path)} | counting_together(tmp_path)
    with (tmp_path / "log").open("wb") as output:
        process = spawn(commands.web("127.0.0.1", port, 2), env=os.environ | environment, output=output, cwd=ROOT)
    try:
        wait_for(process, f"http://127.0.0.1:{port}/healthz", tmp_path / "log")
        answered_by = set()
        for _ in range(40):
            answered_by.add(httpx.get(f"http://127.0.0.1:{port}/login", trust_env=False).status_code)
        assert answered_by == {200}
        asked = 'hone_http_requests_total{method="GET",route="/login",status="2xx"}'
        for _ in range(6):
            found = samples(httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text)
            assert found[asked] == 40
        assert found["hone_database_connections_limit"] == 2 * 20
        assert len({re.findall(r"\d+", file.name)[-1] for file in (tmp_path / "run/metrics").glob("counter_*.db")}) == 2
    finally:
        stop(process, ())


def wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Until both processes have started: the log says so of each."""
    deadline = time.monotonic() + 90
    while log.read_text().count("Application startup complete") < 2:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    assert httpx.get(url, trust_env=False).status_code == 200
