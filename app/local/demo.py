"""The demo: a project with prompts and the shipped model, an admin and a reviewer, on an empty installation."""

import json
import secrets
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from app.accounts import service as accounts
from app.db.migrations import ROOT
from app.db.session import make_session_factory, transaction
from app.db.tables import Comparison, Project
from app.local.errors import StackError
from app.projects import service as projects
from app.prompts import service as prompts
from app.prompts.upload import parse_upload

SLUG = "demo"
MODEL = ROOT / "worker" / "demo" / "model"
PROMPTS = ROOT / "worker" / "demo" / "prompts.jsonl"
SETTINGS = ROOT / "worker" / "demo" / "settings.json"
"""How the demo model is sampled and trained: found by measurement, see docs/demo-model.md."""
ADMIN = "admin@hone.example"
REVIEWER = "reviewer@hone.example"
GUIDELINES = """Choose the answer you would rather get from a helpful colleague.

There is no right taste: short or long, warm or plain, steps or prose. What you keep choosing is what the model learns.
"""


@dataclass(frozen=True)
class Login:
    """Shown once."""

    role: str
    email: str
    password: str


def new_password() -> str:
    """Random, 96 bits, easy to copy."""
    return secrets.token_urlsafe(12)


def bootstrap(engine: Engine) -> list[Login]:
    """Make the demo if there is no demo project yet. Returns the new logins; none when it was there.

    Version 1 is imported, and the first pairs are sampled, by the worker once it runs.
    """
    with transaction(make_session_factory(engine)) as db:
        if db.scalar(select(Project.id).where(Project.slug == SLUG)) is not None:
            return []
        logins = [Login(role, email, new_password()) for role, email in (("admin", ADMIN), ("reviewer", REVIEWER))]
        admin, reviewer = (
            accounts.create_user(db, email=login.email, password=login.password, is_site_admin=login.role == "admin")
            for login in logins
        )
        project = projects.create_project(
            db,
            name="Demo",
            slug=SLUG,
            base_model=str(MODEL),
            guidelines=GUIDELINES,
            created_by=admin.id,
            **json.loads(SETTINGS.read_text(encoding="utf-8")),
        )
        projects.set_member(db, project, reviewer, "reviewer")
        rows, errors = parse_upload(PROMPTS.read_bytes(), PROMPTS.name)
        if errors:
            raise StackError(f"{PROMPTS}, line {errors[0].line}: {errors[0].message}")
        prompts.add_prompts(db, project, [row.conversation for row in rows], source="demo")
        return logins


def ready_pairs(engine: Engine) -> int:
    """Comparisons of the demo project that wait for a reviewer."""
    waiting = (
        select(func.count())
        .select_from(Comparison)
        .join(Project, Project.id == Comparison.project_id)
        .where(Project.slug == SLUG, Comparison.state == "open")
    )
    with engine.connect() as connection:
        return connection.scalar(waiting) or 0
