"""A small real installation for tests of the worker: a database, a data directory, a tiny model that can be trained."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.ids import new_id
from app.db.session import transaction
from app.db.tables import Comparison, Completion, Project, Prompt, Round, RoundEvent, User, Version
from app.rounds import service
from app.settings import Settings
from app.versions.manifest import read_digest
from tests.factories.models import WORDS, copy_version, tokenizer, version_directory
from tests.factories.rows import (
    make_comparison,
    make_project,
    make_prompt,
    make_ranking,
    make_user,
    make_version,
    make_vote,
)
from worker.context import Context

TRAINING = {
    "method": "lora",
    "lora_rank": 4,
    "learning_rate": 1e-3,
    "pairs_per_step": 4,
    "dtype": "float32",
    "max_length": 128,
}


@dataclass(frozen=True, slots=True)
class World:
    """One project with version 1 current, on disk and in the database."""

    context: Context
    project_id: UUID
    version_id: UUID
    reviewer_id: UUID

    @property
    def settings(self) -> Settings:
        return self.context.settings

    def request(self) -> UUID:
        """Ask for a round."""
        with transaction(self.context.factory) as db:
            return service.request_round(db, db.get_one(Project, self.project_id), trigger="button").id

    def round(self, round_id: UUID) -> Round:
        with transaction(self.context.factory) as db:
            return db.get_one(Round, round_id)

    def notes(self, round_id: UUID) -> list[str]:
        """What happened to the round: kinds of events, and texts of notes."""
        with transaction(self.context.factory) as db:
            query = select(RoundEvent).where(RoundEvent.round_id == round_id).order_by(RoundEvent.at)
            return [event.data.get("text", event.kind) for event in db.scalars(query)]

    def versions(self) -> list[tuple[int, str]]:
        with transaction(self.context.factory) as db:
            query = select(Version).where(Version.project_id == self.project_id).order_by(Version.number)
            return [(version.number, version.state) for version in db.scalars(query)]

    def vote(self, count: int, *, held_out: bool = False, choice: str = "a", seed: int = 0) -> None:
        """``count`` votes on pairs of answers in the model's own tokens."""
        rng = random.Random(seed)
        with transaction(self.context.factory) as db:
            for _ in range(count):
                pair = make_pair(
                    db,
                    db.get_one(Project, self.project_id),
                    db.get_one(Version, self.version_id),
                    rng,
                    held_out=held_out,
                )
                make_vote(db, pair, choice=choice, reviewer=db.get_one(User, self.reviewer_id))


def make_world(settings: Settings, *, votes: int = 12, held_out_votes: int = 3, **columns: object) -> World:
    """A project whose version 1 is a tiny llama, with votes to train on."""
    context = replace(Context.build(settings), rng=random.Random(7))
    training = TRAINING | columns.pop("training", {})  # type: ignore[operator]
    columns.setdefault("base_model", str(version_directory("llama")))
    version_id = new_id()
    directory = settings.versions_dir / str(version_id)
    directory.parent.mkdir(parents=True, exist_ok=True)
    copy_version(version_directory("llama"), directory)
    with transaction(context.factory) as db:
        project = make_project(db, training=training, **columns)
        make_version(db, project, id=version_id, number=1, digest=read_digest(directory), context_length=256)
        reviewer = make_user(db)
    world = World(context, project.id, version_id, reviewer.id)
    world.vote(votes)
    world.vote(held_out_votes, held_out=True, seed=1)
    return world


def make_pair(
    db: Session, project: Project, version: Version, rng: random.Random, *, held_out: bool = False
) -> Comparison:
    """A comparison whose completions are real tokens of the tiny model's tokenizer."""
    prompt = _new_prompt(db, project, rng, held_out=held_out)
    pair = make_comparison(db, project, version=version, prompt=prompt)
    speak(db, prompt, rng)
    return pair


def make_order(db: Session, project: Project, version: Version, rng: random.Random) -> Comparison:
    """A ranking of three such completions."""
    prompt = _new_prompt(db, project, rng)
    ranking = make_ranking(db, project, version=version, prompt=prompt)
    speak(db, prompt, rng)
    return ranking


def _new_prompt(db: Session, project: Project, rng: random.Random, *, held_out: bool = False) -> Prompt:
    return make_prompt(db, project, held_out=held_out, text=f"{rng.choice(WORDS)} {rng.random():.6f}?")


def speak(db: Session, prompt: Prompt, rng: random.Random) -> None:
    """Turn the answers to ``prompt`` into random words in the model's own tokens, each with its end."""
    tokens = tokenizer()
    prompt_ids = tokens.apply_chat_template(prompt.messages, add_generation_prompt=True, return_dict=False)
    for completion in db.scalars(select(Completion).where(Completion.prompt_id == prompt.id).order_by(Completion.id)):
        completion.text = " ".join(rng.choices(WORDS, k=rng.randint(4, 9)))
        completion.ids = [*tokens.encode(completion.text, add_special_tokens=False), tokens.eos_token_id]
        completion.prompt_ids = list(prompt_ids)
    db.flush()


def make_settings(database_url: str, data: Path, **columns: object) -> Settings:
    """Settings of an installation in ``data``, quick to notice a lost worker."""
    columns.setdefault("round_lease_seconds", 5.0)
    columns.setdefault("reconcile_seconds", 1.0)
    return Settings(database_url=database_url, data=data, **columns)  # type: ignore[arg-type]
