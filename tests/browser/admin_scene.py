"""A project in the middle of its life, for looking at what admins see: rounds done, failed and running, a candidate."""

import json
import math
import random
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from app.comparisons import refill_counts
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Project, Round, RoundEvent, User, Version
from app.projects.service import create_project, set_member
from app.prompts.conversations import from_text, normalise
from app.prompts.service import add_prompts, archive, keep_upload
from app.rounds.spec import TrainingSettings
from tests.factories import rows

GUIDELINES = """## What makes an answer better here

- It answers the **question that was asked**.
- It is as long as it needs to be, *no longer*.
- It is friendly without gushing.

If both are wrong, choose *both bad*."""

QUESTIONS = [
    "How do I get a red wine stain out of a white tablecloth before the guests arrive tonight?",
    "My sourdough starter smells of acetone. Is it dead, or can I still save it?",
    "What should I say to a colleague who keeps interrupting me in meetings?",
    "Explain to a ten-year-old why the sky is dark at night although there are so many stars.",
    "Which houseplants survive a dark hallway and an owner who forgets to water them?",
    "Write a short, kind note to a neighbour whose dog barks every morning at six.",
    "How long does cooked rice keep in the fridge, and how do I know that it has gone bad?",
    "I have 40 minutes, two eggs, half a cabbage and some noodles. What is for dinner?",
]


@dataclass(frozen=True)
class Scene:
    """Who is in it, and where."""

    admin: User
    reviewer: User
    slug: str
    upload_id: UUID


def life(db: Session, jobs_dir: Path, *, running: bool = True) -> Scene:
    """Lay the rows and files of a project with three versions, four rounds and a few hundred votes' figures.

    Args:
        running: whether round 4 is in training; otherwise it waits for votes.
    """
    chance = random.Random(7)
    ann = rows.make_user(db, email="ann.lindqvist@example.org", name="Ann Lindqvist", is_site_admin=True)
    bo = rows.make_user(db, email="bo@example.org", name="Bo")
    project = create_project(
        db,
        name="Everyday helper",
        base_model="owner/everyday-small",
        guidelines=GUIDELINES,
        created_by=ann.id,
        round_every_votes=100,
        round_schedule="0 3 * * *",
    )
    set_member(db, project, bo, "reviewer")
    set_member(
        db, project, rows.make_user(db, email="cleo.with.a.rather.long.address@research.example.org"), "reviewer"
    )
    upload_id = _prompts(db, project, ann)
    one, two, three = _versions(db, project)
    _rounds(db, project, ann, (one, two, three), jobs_dir, running=running)
    for _ in range(12):
        rows.make_comparison(db, project, version=two)
    for _ in range(9):
        rows.make_vote(db, rows.make_comparison(db, project, version=two), reviewer=bo, choice=chance.choice("ab"))
    db.flush()
    return Scene(ann, bo, project.slug, upload_id)


def _prompts(db: Session, project: Project, ann: User) -> UUID:
    add_prompts(db, project, [from_text(text, max_chars=999) for text in QUESTIONS], source="form", created_by=ann.id)
    talk = [
        {"role": "system", "content": "You answer customers of a small bakery. You are brief."},
        {"role": "user", "content": "Do you have bread without gluten?"},
        {"role": "assistant", "content": "Yes, every day from ten o'clock."},
        {"role": "user", "content": "And without egg, too?"},
    ]
    added = add_prompts(
        db, project, [normalise(talk, max_chars=999), from_text("Hm? " * 90, max_chars=999)], source="api"
    )
    added.created[0].held_out = True
    added.created[1].problem = "612 tokens with the chat template, and the model reads at most 512; shorten it."
    archive(db, project, add_prompts(db, project, [from_text("An old one", max_chars=99)], source="form").created[0].id)
    lines = ['{"prompt": "One more"}', "{not json}", '{"prompt": ""}', '{"question": "a"}', '{"prompt": "Another"}']
    return keep_upload(
        db, project, "\n".join(lines).encode(), "collected-in-november.jsonl", all_or_nothing=False, max_chars=999
    ).id


def _versions(db: Session, project: Project) -> tuple[Version, Version, Version]:
    def figures(accuracy: float, margin: float, kl: float, votes: int) -> dict[str, object]:
        held_out = {"step": 12, "accuracy": accuracy, "pairs": 23, "margin": margin, "kl": kl, "loss": 0.6}
        lengths = {"chosen_tokens": 61.2, "rejected_tokens": 55.8, "length_delta": 5.4}
        return {
            "train": {"preferences": votes},
            "lengths": lengths,
            "eval": {"start": held_out, "end": held_out},
            "displacement_alarm": None,
        }

    day = timedelta(days=1)
    now = utcnow()
    one = rows.make_version(db, project, number=1, state="retired", created_at=now - 9 * day, promoted_at=now - 9 * day)
    two = rows.make_version(
        db, project, number=2, state="current", created_at=now - 3 * day, promoted_at=now - 2 * day, kind="adapter",
        parent_id=one.id, base_id=one.id, metrics=figures(0.72, 0.84, 0.31, 104),
    )  # fmt: skip
    alarm = (
        "likelihood displacement: the chosen answers of held-out preferences are 1.84 nats less likely than under "
        "the reference (alarm at 1); train with DPOP (loss 'dpop') or lower the learning rate"
    )
    gate = {
        "passed": False, "accuracy": 0.78, "min_accuracy": 0.5, "kl": 2.41, "max_kl": 50.0, "held_out_pairs": 23,
        "displacement_alarm": alarm, "reasons": [alarm],
        "blind": {
            "opponent": 2, "wanted": 40, "judged": 40, "prompts": 31, "wins": 17.5, "win_rate": 0.4375, "low": 0.296,
            "high": 0.59, "length_ratio": 1.31, "min_win_rate": 0.4, "max_length_ratio": 2.0,
        },
    }  # fmt: skip
    three = rows.make_version(
        db, project, number=3, state="candidate", created_at=now - day / 4, kind="adapter", parent_id=two.id,
        base_id=one.id, metrics=figures(0.78, 1.9, 2.41, 211) | {"gate": gate, "displacement_alarm": alarm},
        gate_state="failed",
    )  # fmt: skip
    met = {
        "sampled": 1204,
        "resampled": 61,
        "near_identical": 38,
        "looping": 9,
        "empty": 2,
        "formed": 560,
        "seconds": 431,
    }
    refill_counts.add(db, project_id=project.id, version_id=two.id, counts=met)
    project.refill_last_error = "The engine does not answer. It is tried again by itself; `hone doctor` says more."
    project.refill_last_error_at = now - timedelta(hours=2)
    return one, two, three


def _rounds(
    db: Session, project: Project, ann: User, made: tuple[Version, Version, Version], jobs_dir: Path, *, running: bool
) -> None:
    one, two, three = made
    settings = TrainingSettings.from_dict({"loss": "dpop", "epochs": 2}).to_dict()
    counts = {
        "train": 211, "eval": 23, "ties": 31, "both_bad": 7, "prompts": 58, "reviewers": 4, "contradictions": 5,
        "left_out": {"skip": 12, "surplus": 1},
    }  # fmt: skip
    now = utcnow()

    def add(number: int, state: str, hours: float, **columns: object) -> Round:
        started = now - timedelta(hours=hours)
        round_ = Round(
            id=new_id(), project_id=project.id, number=number, state=state, created_at=started, attempt=1,
            started_at=started, **({"kind": "dpo", "trigger": "votes", "settings": settings} | columns),
        )  # fmt: skip
        db.add(round_)
        db.flush()
        steps = ["queued", "preparing", "training", "publishing", "done"]
        until = steps.index(state) if state in steps else 2
        for index, step in enumerate(steps[: until + 1]):
            at = started + timedelta(seconds=7 * index)
            before = steps[index - 1] if index else None
            db.add(RoundEvent(round_id=round_.id, at=at, kind="state", from_state=before, to_state=step))
        if state not in steps:
            at = started + timedelta(minutes=1)
            db.add(RoundEvent(round_id=round_.id, at=at, kind="state", from_state="training", to_state=state))
        return round_

    add(0, "done", 220, kind="import", trigger="setup", version_id=one.id, settings={})
    add(1, "done", 72, version_id=two.id, parent_id=one.id, reference_id=one.id, counts=counts | {"train": 104})
    log = "\n".join(f"step {n} of 26: loss 0.6{n}, 812 tokens/s" for n in range(1, 15))
    add(
        2, "failed", 30, trigger="button", requested_by=ann.id, parent_id=two.id, reference_id=two.id, counts=counts,
        error_code="out_of_memory", log_tail=f"{log}\ntorch.OutOfMemoryError: CUDA out of memory.",
        error="The device ran out of memory at step 15 of 26; lower tokens_per_row (now 4096) or lora_rank (now 16).",
    )  # fmt: skip
    snapshot = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    add(3, "done", 6, version_id=three.id, parent_id=two.id, reference_id=one.id, counts=counts, snapshot_hash=snapshot)
    if running:
        active = add(
            4, "training", 0.02, trigger="button", requested_by=ann.id, parent_id=two.id, reference_id=two.id,
            counts=counts, progress={"kind": "train", "step": 17, "steps": 26, "progress": 0.62},
        )  # fmt: skip
        _metrics(jobs_dir / str(active.id), steps=17, total=26)


def _metrics(job: Path, *, steps: int, total: int) -> None:
    chance = random.Random(3)
    checks = [
        ("preferences to train on", "412 in 380 groups", "ok", ""),
        ("end tokens", "right in 824 completions", "ok", ""),
        ("cut off by length", "190 of 824 completions", "warn", "more than a fifth was cut off; sample longer answers"),
        ("shared forward", "within 4.8e-06 nats a token of the plain one", "ok", ""),
        ("|Δ| before step 1", "up to 2.3e-05 nats, 0 within rounding", "ok", ""),
    ]
    findings = [dict(zip(("name", "value", "level", "note"), check, strict=True)) for check in checks]
    lines: list[dict[str, object]] = [{"kind": "audit", "step": 0, "findings": findings, "table": ""}]
    for step in range(1, steps + 1):
        grown = 1 - math.exp(-step / 9)
        chosen, rejected = 0.9 * grown + chance.gauss(0, 0.06), -1.7 * grown + chance.gauss(0, 0.1)
        figures = {
            "loss": 0.693 - 0.33 * grown + chance.gauss(0, 0.02),
            "accuracy": min(1.0, 0.5 + 0.35 * grown + chance.gauss(0, 0.04)),
            "margin": chosen - rejected,
            "kl": 0.8 * grown,
            "length_delta": 6 * grown,
        }
        ratios = {"chosen_log_ratio": chosen, "rejected_log_ratio": rejected}
        lines.append({"kind": "train", "step": step, "steps": total} | figures | ratios)
        if step in (1, 8, 16):
            lines.append({"kind": "eval", "step": step, "steps": total} | {k: v * 0.93 for k, v in figures.items()})
            lines.append({"kind": "best", "step": step, "loss": figures["loss"] * 0.93})
    job.mkdir(parents=True)
    (job / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
