"""Examples for ``test_routes``: what to put into a route's path and body so that it reaches a thing of ``alpha``.

A new route is covered by itself when its path parameters are named here. It needs an entry in ``BODIES`` only if it
finds its project by an id (the role is then checked after the body was understood) or cannot be parsed without one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.accounts.scopes import SCOPES
from app.accounts.service import create_token, start_session
from app.comparisons.service import lease_next
from app.db.tables import PlaygroundTurn, Project, PromptUpload, Round, User
from tests.factories import rows


@dataclass
class Person:
    """Somebody with every way to call, and things of their own."""

    user: User
    session_key: str
    csrf: str
    token: str
    token_id: UUID
    chat: str = ""
    """A kept chat of theirs with ``alpha``'s model."""
    turn: UUID | None = None
    """A question of theirs in ``alpha``'s playground."""
    leased: UUID | None = None
    """A comparison of ``alpha`` that is theirs to judge."""


@dataclass
class World:
    """The project ``alpha`` with one of everything, and people around it."""

    alpha: Project
    people: dict[str, Person]
    ids: dict[str, Any] = field(default_factory=dict)
    db: Session | None = None


def build(db: Session) -> World:
    """Fill the database; ``stranger`` is the admin of another project."""
    alpha, beta = rows.make_project(db, slug="alpha"), rows.make_project(db, slug="beta")
    reviewer, admin = rows.make_member(db, alpha), rows.make_member(db, alpha, role="admin")
    people = {
        "reviewer": _person(db, reviewer),
        "admin": _person(db, admin),
        "stranger": _person(db, rows.make_member(db, beta, role="admin")),
        "site admin": _person(db, rows.make_user(db, is_site_admin=True)),
    }
    version = rows.make_version(db, alpha, number=2)
    candidate = rows.make_version(db, alpha, number=3, state="candidate", parent_id=version.id)
    round_ = Round(project_id=alpha.id, number=5, trigger="button", state="failed", parent_id=version.id)
    upload = PromptUpload(
        project_id=alpha.id, filename="a.csv", all_or_nothing=False, created_count=1, existing_count=0, refused_count=0
    )
    db.add_all([round_, upload])
    comparisons = [rows.make_comparison(db, alpha, version=version) for _ in people]
    for person in people.values():
        turn = PlaygroundTurn(
            project_id=alpha.id,
            user_id=person.user.id,
            messages=[{"role": "user", "content": "Hello"}],
            sampling={"seeds": {"a": 1, "b": 2}},
            left_version_id=version.id,
            right_version_id=candidate.id,
        )
        db.add(turn)
        db.flush()
        person.turn = turn.id
        person.chat = rows.make_chat(db, rows.make_prompt(db, alpha), person.user, version=version)[0]
        leased = lease_next(db, project=alpha, reviewer_id=person.user.id)
        assert leased is not None
        person.leased = leased.comparison_id
    db.flush()
    ids = {
        "version_id": candidate.id,
        "round_id": round_.id,
        "upload_id": upload.id,
        "prompt_id": comparisons[0].prompt_id,
        "user_id": reviewer.id,
        "check_id": rows.make_control(db, alpha).id,
        "version_number": candidate.number,
        "round_number": round_.number,
    }
    return World(alpha, people, ids)


PATH_PARAMS: Mapping[str, Callable[[World, Person, str], object]] = {
    "slug": lambda world, _caller, _path: world.alpha.slug,
    "version_id": lambda world, _caller, _path: world.ids["version_id"],
    "round_id": lambda world, _caller, _path: world.ids["round_id"],
    "upload_id": lambda world, _caller, _path: world.ids["upload_id"],
    "prompt_id": lambda world, _caller, _path: world.ids["prompt_id"],
    "user_id": lambda world, _caller, _path: world.ids["user_id"],
    "comparison_id": lambda _world, caller, _path: caller.leased,
    "token_id": lambda _world, caller, _path: caller.token_id,
    "turn_id": lambda _world, caller, _path: caller.turn,
    "model": lambda world, _caller, _path: world.alpha.slug,
    "number": lambda world, _caller, path: world.ids["version_number" if "/versions/" in path else "round_number"],
    "check_id": lambda world, _caller, _path: world.ids["check_id"],
    "path": lambda _world, _caller, _path: "css/base.css",
}
"""Path parameter → a value with which the caller, if allowed, reaches something of ``alpha``'s or of their own."""

BODIES: Mapping[tuple[str, str], Mapping[str, Any] | Callable[[World, Person], Mapping[str, Any]]] = {
    ("POST", "/api/v1/comparisons/{comparison_id}/votes"): {"choice": "a"},
    ("PATCH", "/api/v1/projects/{slug}/reviewers/{user_id}"): {"daily_goal": 5},
    ("POST", "/api/v1/projects/{slug}/reviewers/{user_id}/quarantine"): {"reason": "It is a test."},
    ("PUT", "/api/v1/projects/{slug}/preferences/contradictions/{comparison_id}/decision"): {"choice": "a"},
    ("POST", "/v1/feedback"): lambda _world, caller: {"answer": {"id": caller.chat}, "thumb": "up"},
    ("POST", "/v1/chat/completions"): {"model": "alpha", "messages": [{"role": "user", "content": "Hello"}]},
}
"""JSON bodies by method and path, or what makes one for a caller."""

FORMS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("POST", "/p/{slug}/members/{user_id}/role"): {"role": "admin"},
    ("POST", "/p/{slug}/playground/{turn_id}/choice"): {"choice": "a"},
    ("POST", "/p/{slug}/preferences/contradictions/{comparison_id}"): {"choice": "a"},
    ("POST", "/p/{slug}/reviewers/{user_id}/qualification"): {"value": "waived"},
}
"""Fields of forms, likewise."""

WRITES_ON_GET: Mapping[str, str] = {
    "/p/{slug}/compare": "leases the next pair to whoever looks at it; looking again gives the same one",
    "/p/{slug}/export": "says in the audit log who took the votes along",
    "/api/v1/projects/{slug}/export": "the same",
    "/p/{slug}/preferences/votes.jsonl": "the same, of some of them",
    "/api/v1/projects/{slug}/preferences/votes": "the same, of some of them",
}
"""GET routes that write, and why that is harmless. All others must not."""


def _person(db: Session, user: User) -> Person:
    session, key = start_session(db, user, days=14)
    token, secret = create_token(db, user=user, name="all", scopes=SCOPES)
    return Person(user, key, session.csrf_token, secret, token.id)
