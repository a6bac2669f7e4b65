"""Every loss, all the way: votes and settings over HTTP, a worker on a real Redis, a trainer process, a new version.

One project, whose votes say everything that people can say, and a round for each loss, with every setting moved off
its default and every option that the loss reads.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from safetensors.torch import load_file

from app.accounts.scopes import SCOPES
from app.accounts.service import create_token
from app.db.tables import Project, User, Version
from app.local.process import spawn, stop
from app.rounds.spec import LOSSES, loss_options
from app.settings import Settings
from app.versions.manifest import VersionInfo, verify
from tests.browser.server import LiveServer, serving
from tests.factories.rows import make_chat, make_member, make_prompt
from tests.factories.worlds import TRAINING, World, make_order, make_pair, make_settings, make_world, speak
from tests.worker import warm_trainer
from tests.worker.conftest import ROOT, StartWorker

API = "/api/v1"
ROUND_SECONDS = 60.0

VOTES: list[dict[str, Any]] = [
    *[{"choice": "a", "strength": 3}] * 2,
    *[{"choice": "b", "strength": 2}] * 2,
    *[{"choice": "a", "strength": 1}] * 2,
    {"choice": "tie"},
    {"choice": "both_bad"},
]
ORDERS = [[[2], [0], [1]], [[0], [1, 2]]]
HELD_OUT = 2
FRESH = 2
"""Votes between two rounds; a project asks for no fewer."""


def said(rounds: int) -> dict[str, int]:
    """Everything that was said before a round, held-out choices included. Slight preferences have no margin."""
    choices = 6 + HELD_OUT + FRESH * rounds
    return {"choice": choices, "margin": 4, "tie": 1, "both_bad": 1, "ranking": 2, "label": 2}


def read_and_left(loss: str, rounds: int) -> tuple[dict[str, int], dict[str, int]]:
    """What the loss learns from, and what it leaves out, by name.

    Pairwise losses read a ranking as the pairs it implies, and its equals where they read ties.
    """
    signals = LOSSES[loss].signals
    read = {signal: count for signal, count in said(rounds).items() if signal in signals}
    left = {signal: count for signal, count in said(rounds).items() if signal not in signals}
    if LOSSES[loss].shape == "pairs" and "tie" not in signals:
        left["tie in a ranking"] = 1
    return read, left


def training(loss: str) -> dict[str, Any]:
    """Settings of a round with ``loss``: everything it reads, and nothing as it is by default."""
    own = {name: round(rule.default * 1.1, 6) for name, rule in LOSSES[loss].settings.items()}
    options = {"margin_scale": 0.5, "pair_weighting": "wpo", "reference_sync_steps": 2, "reference_sync_alpha": 0.5}
    options |= {"f_divergence": "alpha", "f_divergence_alpha": 0.3}
    reads = {name: value for name, value in options.items() if name in loss_options(loss)}
    return TRAINING | {"loss": loss, "loss_settings": own} | reads


@pytest.fixture(scope="module")
def trainer_command() -> Iterator[list[str]]:
    """Starts the trainer at once: see ``warm_trainer``."""
    folder = Path(tempfile.mkdtemp(prefix="hone-tests-"))
    address, script = str(folder / "trainer"), str(Path(warm_trainer.__file__))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = spawn([sys.executable, "-P", script, "serve", address], env=environment, output=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not Path(address).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield [sys.executable, "-P", script, "ask", address]
    stop(process, ())
    shutil.rmtree(folder)


@pytest.fixture
def settings(fresh_database: str, tmp_path: Path, redis_url: str, trainer_command: list[str]) -> Settings:
    return make_settings(fresh_database, tmp_path / "data", redis_url=redis_url, trainer_command=trainer_command)


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    made = make_world(
        settings, votes=0, held_out_votes=0, slug="tone", min_round_votes=2, reviewing={"scale": "strength"}
    )
    yield made
    made.context.close()


@dataclass
class Person:
    """The project's admin, who reviews, too; a program with a token."""

    client: httpx.Client
    user_id: UUID

    def ask(self, method: str, path: str, expected: int = 200, **body: Any) -> Any:
        """What the server answers."""
        answer = self.client.request(method, path, **body)
        assert answer.status_code == expected, answer.text
        return answer.json()

    def judge(self, **vote: Any) -> None:
        """Take the next pair and vote on it."""
        taken = self.ask("POST", f"{API}/projects/tone/comparisons/next")
        self.ask("POST", f"{API}/comparisons/{taken['id']}/votes", 201, json=vote)

    def finished_round(self) -> Any:
        """Start a round, and wait for its end."""
        round_ = self.ask("POST", f"{API}/projects/tone/rounds", 202)
        deadline = time.monotonic() + ROUND_SECONDS
        while round_["state"] not in ("done", "failed", "cancelled"):
            assert time.monotonic() < deadline, round_
            time.sleep(0.1)
            round_ = self.ask("GET", f"{API}/rounds/{round_['id']}")
        return round_


@pytest.fixture
def person(world: World, settings: Settings) -> Iterator[Person]:
    given = settings.model_dump(include={"redis_url"})
    with serving(settings.database_url, settings.data, **given) as server:
        person = _sign_up(server, world)
        yield person
        person.client.close()


def _sign_up(server: LiveServer, world: World) -> Person:
    with server.db() as db:
        user = make_member(db, db.get_one(Project, world.project_id), role="admin")
        _, secret = create_token(db, user=user, name="test", scopes=SCOPES)
    return Person(httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {secret}"}), user.id)


def say_everything(world: World, person: Person) -> None:
    """Choices of every strength, a tie, 'both bad', rankings, thumbs; and choices on prompts that are held out."""
    rng = random.Random(3)
    with world.context.factory.begin() as db:
        project, version = db.get_one(Project, world.project_id), db.get_one(Version, world.version_id)
        for _ in VOTES:
            make_pair(db, project, version, rng)
        asked = make_prompt(db, project, source="chat")
        chat, _ = make_chat(db, asked, db.get_one(User, person.user_id), version=version, texts=(None, None))
        speak(db, asked, rng)
    for vote in VOTES:
        person.judge(**vote)
    for index, thumb in enumerate(("up", "down")):
        person.ask("POST", "/v1/feedback", 201, json={"answer": {"id": chat, "index": index}, "thumb": thumb})
    with world.context.factory.begin() as db:
        project, version = db.get_one(Project, world.project_id), db.get_one(Version, world.version_id)
        for _ in range(HELD_OUT):
            make_pair(db, project, version, rng, held_out=True)
    for _ in range(HELD_OUT):
        person.judge(choice="a", strength=1)
    person.ask("PATCH", f"{API}/projects/tone", json={"reviewing": {"mode": "ranking", "answers": 3}})
    with world.context.factory.begin() as db:
        project, version = db.get_one(Project, world.project_id), db.get_one(Version, world.version_id)
        for _ in ORDERS:
            make_order(db, project, version, rng)
    for order in ORDERS:
        person.judge(choice="ranked", ranking=order)


def say_more(world: World, person: Person, seed: int) -> None:
    """The new votes that a round waits for."""
    rng = random.Random(seed)
    with world.context.factory.begin() as db:
        project, version = db.get_one(Project, world.project_id), db.get_one(Version, world.version_id)
        for _ in range(FRESH):
            make_pair(db, project, version, rng)
    for _ in range(FRESH):
        person.judge(choice="a")


def test_a_round_with_every_loss(world: World, settings: Settings, person: Person, start_worker: StartWorker) -> None:
    start_worker(settings)
    say_everything(world, person)
    for number, loss in enumerate(LOSSES, start=1):
        say_more(world, person, seed=100 + number)
        wanted = training(loss)
        person.ask("PATCH", f"{API}/projects/tone", json={"training": wanted})
        round_ = person.finished_round()
        assert (round_["state"], round_["number"]) == ("done", number), (loss, round_["error"], round_["log_tail"])
        assert wanted.items() <= round_["settings"].items()
        made = person.ask("GET", f"{API}/versions/{round_['version_id']}")
        assert (made["number"], made["state"]) == (number + 1, "candidate"), loss
        directory = settings.versions_dir / round_["version_id"]
        assert verify(directory) == made["digest"]
        info = VersionInfo.read(directory)
        assert wanted.items() <= info.spec["settings"].items()
        assert (info.metrics["learned_from"], info.metrics["left_out"]) == read_and_left(loss, number), loss
        moved = [name for name, weight in load_file(directory / "adapter_model.safetensors").items() if weight.any()]
        assert any("lora_B" in name for name in moved), f"{loss} has changed nothing"
    last = person.ask("POST", f"{API}/versions/{round_['version_id']}/promote")
    assert last["state"] == "current"
