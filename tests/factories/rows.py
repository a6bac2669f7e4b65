"""Rows for tests, made in the session that is given: users, projects, versions, prompts, completions, comparisons.

Everything is flushed, nothing committed. Names and texts count up, so that two rows are never equal by accident.
Users made here cannot sign in (their password hash is no hash) unless a ``password`` is given.
"""

import hashlib
import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import (
    Assignment,
    Chat,
    ChatAnswer,
    Comparison,
    ComparisonItem,
    ComparisonSlot,
    Completion,
    Control,
    Membership,
    Project,
    Prompt,
    User,
    Version,
    Vote,
)
from app.prompts.conversations import digest

_count = itertools.count(1)


def make_user(
    db: Session, *, email: str | None = None, name: str = "", is_site_admin: bool = False, password: str | None = None
) -> User:
    """A user; with a ``password`` one that can sign in (argon2id, so it takes a moment)."""
    n = next(_count)
    email = email or f"person{n}@example.org"
    if password is not None:
        from app.accounts.service import create_user

        return create_user(db, email=email, password=password, name=name, is_site_admin=is_site_admin)
    user = User(email=email, name=name or f"Person {n}", password_hash="!", is_site_admin=is_site_admin)
    db.add(user)
    db.flush()
    return user


def make_project(db: Session, *, slug: str | None = None, **columns: Any) -> Project:
    """A project with the tables' defaults; any column can be given."""
    n = next(_count)
    columns.setdefault("name", f"Project {n}")
    columns.setdefault("base_model", "demo")
    project = Project(slug=slug or f"project-{n}", **columns)
    db.add(project)
    db.flush()
    return project


def make_member(db: Session, project: Project, *, role: str = "reviewer", user: User | None = None) -> User:
    """A member of the project (a new user unless one is given)."""
    user = user or make_user(db)
    db.add(Membership(project_id=project.id, user_id=user.id, role=role))
    db.flush()
    return user


def make_version(
    db: Session, project: Project, *, number: int | None = None, state: str = "current", **columns: Any
) -> Version:
    """A version row (no directory behind it). A new current version retires the one before."""
    if state == "current":
        db.execute(
            update(Version)
            .where(Version.project_id == project.id, Version.state == "current")
            .values(state="retired", retired_at=utcnow())
        )
    columns.setdefault("kind", "full")
    columns.setdefault("digest", hashlib.sha256(str(next(_count)).encode()).hexdigest())
    columns.setdefault("context_length", 512)
    version = Version(project_id=project.id, number=next(_count) if number is None else number, state=state, **columns)
    db.add(version)
    db.flush()
    return version


def make_prompt(
    db: Session,
    project: Project,
    *,
    text: str | None = None,
    messages: list[dict[str, str]] | None = None,
    held_out: bool = False,
    source: str = "form",
) -> Prompt:
    """A prompt of one user's turn, or of the given ``messages``."""
    messages = messages or [{"role": "user", "content": text or f"Question {next(_count)}: what should I cook?"}]
    prompt = Prompt(project_id=project.id, digest=digest(messages), messages=messages, held_out=held_out, source=source)
    db.add(prompt)
    db.flush()
    return prompt


def make_completion(
    db: Session,
    prompt: Prompt,
    *,
    version: Version | None,
    text: str | None = None,
    ids: Sequence[int] | None = None,
    prompt_ids: Sequence[int] = (1, 10),
    end: str | None = None,
) -> Completion:
    """A completion that ``version`` sampled (``None``: one that a person wrote)."""
    completion = Completion(
        project_id=prompt.project_id,
        prompt_id=prompt.id,
        version_id=version.id if version else None,
        text=text if text is not None else f"Answer {next(_count)}.",
        prompt_ids=list(prompt_ids),
        ids=[11, 12 + next(_count), 2] if ids is None else list(ids),
        end=end or ("eos" if version else "human"),
    )
    db.add(completion)
    db.flush()
    return completion


def make_comparison(
    db: Session,
    project: Project,
    *,
    version: Version | None = None,
    versions: tuple[Version, Version] | None = None,
    prompt: Prompt | None = None,
    texts: tuple[str | None, str | None] = (None, None),
    slots: int = 1,
    first_left: str = "a",
    held_out: bool = False,
    queue_key: float | None = None,
) -> Comparison:
    """An open comparison of two new completions of ``prompt`` (a new one by default), with its free slots.

    Both are of one ``version``, or each of its own of ``versions``.
    """
    if versions is None:
        version = version or make_version(db, project, state="retired")
        versions = (version, version)
    prompt = prompt or make_prompt(db, project, held_out=held_out)
    a, b = (make_completion(db, prompt, version=v, text=t) for v, t in zip(versions, texts, strict=True))
    comparison = Comparison(
        project_id=project.id,
        prompt_id=prompt.id,
        completion_a_id=a.id,
        completion_b_id=b.id,
        first_left=first_left,
    )
    db.add(comparison)
    db.flush()
    key = float(next(_count)) if queue_key is None else queue_key
    db.add_all(
        ComparisonSlot(comparison_id=comparison.id, slot=slot, project_id=project.id, queue_key=key)
        for slot in range(slots)
    )
    db.flush()
    return comparison


def make_ranking(
    db: Session,
    project: Project,
    *,
    version: Version | None = None,
    prompt: Prompt | None = None,
    texts: Sequence[str | None] = (None, None, None),
    slots: int = 1,
    first_left: str = "a",
    held_out: bool = False,
    queue_key: float | None = None,
) -> Comparison:
    """An open ranking of new completions of ``prompt``, in the order of ``texts``, with its free slots."""
    version = version or make_version(db, project, state="retired")
    prompt = prompt or make_prompt(db, project, held_out=held_out)
    items = [make_completion(db, prompt, version=version, text=text) for text in texts]
    ranking = Comparison(
        project_id=project.id,
        prompt_id=prompt.id,
        mode="ranking",
        completion_a_id=items[0].id,
        completion_b_id=items[1].id,
        first_left=first_left,
    )
    db.add(ranking)
    db.flush()
    key = float(next(_count)) if queue_key is None else queue_key
    db.add_all(
        ComparisonItem(comparison_id=ranking.id, position=position, completion_id=item.id)
        for position, item in enumerate(items)
    )
    db.add_all(
        ComparisonSlot(comparison_id=ranking.id, slot=slot, project_id=project.id, queue_key=key)
        for slot in range(slots)
    )
    db.flush()
    return ranking


def make_chat(
    db: Session, prompt: Prompt, user: User, *, version: Version, texts: Sequence[str | None] = (None,)
) -> tuple[str, list[Completion]]:
    """A chat of the user's that was kept: its id as clients know it, and its answers."""
    from app.accounts.service import create_token

    token, _ = create_token(db, user=user, name="chat", scopes=["chat"], keeps="answers")
    chat = Chat(project_id=prompt.project_id, user_id=user.id, token_id=token.id, prompt_id=prompt.id)
    db.add(chat)
    db.flush()
    answers = [make_completion(db, prompt, version=version, text=text) for text in texts]
    db.add_all(ChatAnswer(chat_id=chat.id, index=index, completion_id=item.id) for index, item in enumerate(answers))
    db.flush()
    return f"chatcmpl-{chat.id.hex}", answers


def make_vote(
    db: Session,
    comparison: Comparison,
    *,
    reviewer: User | None = None,
    choice: str = "a",
    slot: int = 0,
    created_at: datetime | None = None,
    source: str = "web",
    **columns: Any,
) -> Vote:
    """A counted vote in ``slot``, with the rows that a real one leaves behind.

    ``choice`` is the comparison's own 'a', 'b', 'tie' or 'both_bad'. The comparison is completed when this
    was its last open slot. Other columns of the vote (``strength``, ``comment`` …) can be given.
    """
    now = created_at or utcnow()
    left_side = comparison.first_left if slot % 2 == 0 else {"a": "b", "b": "a"}[comparison.first_left]
    reviewer_id: UUID = (reviewer or make_user(db)).id
    assignment = Assignment(
        project_id=comparison.project_id,
        comparison_id=comparison.id,
        reviewer_id=reviewer_id,
        slot=slot,
        left_side=left_side,
        state="voted",
        leased_at=now,
        expires_at=now,
    )
    db.add(assignment)
    db.flush()
    seats = db.query(ComparisonSlot).filter_by(comparison_id=comparison.id).order_by(ComparisonSlot.slot).all()
    seats[slot].state, seats[slot].assignment_id = "voted", assignment.id
    if all(seat.state == "voted" for seat in seats):
        comparison.state, comparison.closed_at = "complete", now
    shown = ("left" if choice == left_side else "right") if choice in ("a", "b") else choice
    vote = Vote(
        id=new_id(),
        project_id=comparison.project_id,
        comparison_id=comparison.id,
        assignment_id=assignment.id,
        reviewer_id=reviewer_id,
        revision=1,
        choice=choice,
        shown_choice=shown,
        source=source,
        created_at=now,
        **columns,
    )
    db.add(vote)
    db.flush()
    return vote


def make_control(
    db: Session, project: Project, *, kind: str = "gold", answer: str = "a", created_by: User | None = None
) -> Control:
    """A pair whose better answer is known, of a new prompt."""
    prompt = make_prompt(db, project)
    a, b = (make_completion(db, prompt, version=None, ids=()) for _ in "ab")
    control = Control(
        project_id=project.id,
        kind=kind,
        prompt_id=prompt.id,
        completion_a_id=a.id,
        completion_b_id=b.id,
        answer=answer,
        origin="admin",
        created_by=created_by.id if created_by else None,
    )
    db.add(control)
    db.flush()
    return control
