"""Asking for rounds: new ones, the import of the base model, cancelling, trying again."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.comparisons.queries import votes_since_last_round
from app.db.tables import Project, Round
from app.journal import audit
from app.journal.outbox import enqueue
from app.journal.queues import RUN_ROUNDS
from app.language import _
from app.projects.archived import ProjectArchivedError
from app.rounds import events, thawing
from app.rounds.errors import (
    AlreadyImportedError,
    NoCurrentVersionError,
    RoundAlreadyActiveError,
    RoundNotActiveError,
    RoundNotRetryableError,
    RoundSettingsInvalidError,
    TooFewVotesError,
)
from app.rounds.spec import SpecError, TrainingSettings, problems, with_stored_machines
from app.rounds.states import ACTIVE, Trigger
from app.versions.queries import current, first


def request_round(
    db: Session,
    project: Project,
    *,
    trigger: Trigger,
    requested_by: UUID | None = None,
    settings: TrainingSettings | None = None,
) -> Round:
    """Queue a round that trains from the current version on the votes so far, and wake the worker.

    ``settings``: those of this round alone; None takes the project's.

    Raises:
        ProjectArchivedError: nothing starts there.
        RoundAlreadyActiveError: another one has not ended yet.
        NoCurrentVersionError: there is nothing to start from.
        TooFewVotesError: fewer new votes on training prompts than the project asks for; with both numbers.
        SpecError: the project's training settings cannot be used (they were checked when they were set).
    """
    _lock(db, project)
    refuse_second(db, project)
    parent = current(db, project)
    if parent is None:
        raise NoCurrentVersionError(project.name)
    votes = votes_since_last_round(db, project)
    if votes < project.min_round_votes:
        raise TooFewVotesError(votes, project.min_round_votes)
    usual = TrainingSettings.from_dict(project.training)
    settings = settings or usual
    reference = parent if settings.reference == "parent" else first(db, project) or parent
    round_ = Round(
        project_id=project.id,
        kind="dpo",
        trigger=trigger,
        requested_by=requested_by,
        settings=settings.to_dict(),
        parent_id=parent.id,
        reference_id=reference.id,
    )
    known = usual.to_dict()
    own = {name: value for name, value in settings.to_dict().items() if known.get(name) != value}
    return _queue(db, project, round_, action="round.request", votes=votes, **({"training": own} if own else {}))


def settings_over(project: Project, changes: Mapping[str, Any], *, by_site_admin: bool) -> TrainingSettings:
    """The project's training settings with ``changes``, see ``TrainingSettings.overridden``.

    Raises:
        RoundSettingsInvalidError: they cannot be used, or are for site admins to set.
    """
    allowed = _on_allowed_machines(project, changes, by_site_admin=by_site_admin)
    return _checked(TrainingSettings.from_dict(project.training).overridden(allowed))


def settings_of(project: Project, values: Mapping[str, Any], *, by_site_admin: bool) -> TrainingSettings:
    """Training settings that are ``values`` and defaults alone; the project's only where site admins set them.

    Raises:
        RoundSettingsInvalidError: they cannot be used, or are for site admins to set.
    """
    return _checked(_on_allowed_machines(project, values, by_site_admin=by_site_admin))


def _on_allowed_machines(project: Project, asked: Mapping[str, Any], *, by_site_admin: bool) -> Mapping[str, Any]:
    if by_site_admin:
        return asked
    try:
        return with_stored_machines(asked, project.training)
    except SpecError as error:
        raise RoundSettingsInvalidError([error]) from error


def _checked(values: Mapping[str, Any]) -> TrainingSettings:
    try:
        return TrainingSettings.from_dict(values)
    except SpecError as error:
        raise RoundSettingsInvalidError(problems(values)) from error


def request_import(db: Session, project: Project, *, requested_by: UUID | None = None) -> Round:
    """Queue the round that brings in the base model as version 1.

    Raises:
        AlreadyImportedError: there is a version already.
        RoundAlreadyActiveError: it is under way.
    """
    _lock(db, project)
    refuse_second(db, project)
    if first(db, project) is not None:
        raise AlreadyImportedError(
            _("%(name)s has its first version.", name=project.name), mend=_("Nothing needs to be done.")
        )
    round_ = Round(project_id=project.id, kind="import", trigger="setup", requested_by=requested_by)
    return _queue(db, project, round_, action="round.import", base_model=project.base_model)


def cancel(db: Session, round_: Round, *, actor: UUID | None = None) -> Round:
    """End an active round: at once if no worker holds it, else as soon as its worker notices (seconds).

    The votes it read are new again then.

    Raises:
        RoundNotActiveError: it has ended already.
    """
    now = func.clock_timestamp()
    unheld = or_(Round.lease_token.is_(None), Round.lease_expires_at < now)
    before = db.scalar(select(Round.state).where(Round.id == round_.id).with_for_update())
    ended = db.scalar(
        update(Round)
        .where(Round.id == round_.id, Round.state.in_(ACTIVE), unheld)
        .values(state="cancelled", lease_token=None, lease_expires_at=None, cancel_requested_at=now, finished_at=now)
        .returning(Round.id)
    )
    if ended is not None:
        events.add(db, round_.id, "state", from_state=before, to_state="cancelled")
        thawing.let_go(db, round_.id)
    else:
        asked = db.scalar(
            update(Round)
            .where(Round.id == round_.id, Round.state.in_(ACTIVE))
            .values(cancel_requested_at=func.coalesce(Round.cancel_requested_at, now))
            .returning(Round.id)
        )
        if asked is None:
            raise RoundNotActiveError(round_.number, str(before))
        events.add(db, round_.id, "cancel_requested")
    audit.record(db, actor_id=actor, project_id=round_.project_id, action="round.cancel", subject=f"round:{round_.id}")
    db.refresh(round_)
    return round_


def retry(db: Session, round_: Round, *, actor: UUID | None = None) -> Round:
    """Queue a failed round again. It keeps its snapshot and goes on from the trainer's last checkpoint.

    Raises:
        RoundNotRetryableError: it has not failed.
        RoundAlreadyActiveError: another round of the project is active.
        VotesChangedError: votes of its snapshot do not count any more as they did.
    """
    project = db.get_one(Project, round_.project_id)
    _lock(db, project)
    refuse_second(db, project)
    changed = db.scalar(
        update(Round)
        .where(Round.id == round_.id, Round.state == "failed")
        .values(
            state="queued",
            error_code=None,
            error=None,
            log_tail=None,
            cancel_requested_at=None,
            finished_at=None,
            progress={},
        )
        .returning(Round.id)
    )
    if changed is None:
        db.refresh(round_)
        raise RoundNotRetryableError(round_.number, round_.state)
    events.add(db, round_.id, "retry", from_state="failed", to_state="queued")
    thawing.take_up(db, round_)
    audit.record(db, actor_id=actor, project_id=project.id, action="round.retry", subject=f"round:{round_.id}")
    enqueue(db, RUN_ROUNDS)
    db.refresh(round_)
    return round_


def _lock(db: Session, project: Project) -> None:
    """Rounds of a project are asked for one at a time; votes, which only refer to the project, do not wait.

    Raises:
        ProjectArchivedError: it is archived by now.
    """
    query = select(Project.archived_at).where(Project.id == project.id).with_for_update(key_share=True)
    if db.execute(query).scalar_one() is not None:
        raise ProjectArchivedError


def refuse_second(db: Session, project: Project) -> None:
    """See that no round of the project is active, whose row is locked.

    Raises:
        RoundAlreadyActiveError: one is.
    """
    active = db.execute(
        select(Round.number, Round.state).where(Round.project_id == project.id, Round.state.in_(ACTIVE))
    ).one_or_none()
    if active is not None:
        raise RoundAlreadyActiveError(active.number, active.state)


def _queue(db: Session, project: Project, round_: Round, *, action: str, **data: object) -> Round:
    last = db.scalar(select(func.max(Round.number)).where(Round.project_id == project.id))
    if round_.kind == "import":
        round_.number = 0 if last is None else last + 1
    else:
        round_.number = (last or 0) + 1
    try:
        with db.begin_nested():
            db.add(round_)
    except IntegrityError as error:  # somebody who does not take the lock (another program) was faster
        if "uq_rounds_active" not in str(error.orig):
            raise
        raise RoundAlreadyActiveError from error
    events.add(db, round_.id, "state", to_state="queued", trigger=round_.trigger)
    audit.record(
        db,
        actor_id=round_.requested_by,
        project_id=project.id,
        action=action,
        subject=f"round:{round_.id}",
        number=round_.number,
        trigger=round_.trigger,
        **data,
    )
    enqueue(db, RUN_ROUNDS)
    return round_
