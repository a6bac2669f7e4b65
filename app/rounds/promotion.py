"""Which version is the current one: registering what a round made, promoting, rolling back, rejecting."""

from typing import Any
from uuid import UUID

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from app.comparisons.service import withdraw_comparing, withdraw_unvoted
from app.db.tables import Project, Round, Version
from app.journal import audit
from app.journal.outbox import enqueue
from app.journal.queues import REFILL
from app.language import _, listed
from app.projects.refilling import gate_of, refilling_of
from app.rounds import blind, events, leases
from app.rounds.errors import (
    NothingToRollBackToError,
    VersionDamagedError,
    VersionNotPromotableError,
    VersionNotRejectableError,
)
from app.rounds.gate import judge
from app.settings import Settings
from app.versions.files import check_base, directory
from app.versions.manifest import ManifestError, VersionInfo, verify
from app.versions.queries import current, predecessor


def register_version(
    db: Session, round_: Round, token: UUID, *, version_id: UUID, digest: str, info: VersionInfo
) -> Version:
    """Write down the published, verified version that a round made, and end the round, in the caller's transaction.

    The import's version becomes the current one. A trained one is a candidate; the project's rule may promote it in
    the same transaction, unless the version it was trained from is no longer the current one.

    Raises:
        LeaseLostError: the round is not held with ``token`` any more; nothing was written.
    """
    project = db.get_one(Project, round_.project_id)
    lock_versions(db, project)
    last = db.scalar(select(func.max(Version.number)).where(Version.project_id == project.id)) or 0
    base = UUID(info.base.version) if info.kind == "adapter" and info.base and info.base.version else None
    version = Version(
        id=version_id,
        project_id=project.id,
        number=last + 1,
        parent_id=round_.parent_id,
        base_id=base,
        state="candidate",
        kind=info.kind,
        digest=digest,
        context_length=info.context_length,
        metrics=info.metrics,
    )
    db.add(version)
    db.flush()
    leases.advance(db, round_.id, token, "publishing", "done", version_id=version.id)
    audit.record(
        db,
        actor_id=round_.requested_by,
        project_id=project.id,
        action="version.register",
        subject=f"version:{version.id}",
        number=version.number,
        round=round_.number,
        digest=digest,
    )
    if round_.kind == "import":
        return _make_current(db, project, version, actor=round_.requested_by, action="version.import")
    return _follow_rule(db, project, round_, version)


def promote(
    db: Session, version: Version, *, actor: UUID | None, settings: Settings, action: str = "version.promote"
) -> Version:
    """Make a candidate or an earlier version the current one; the old one retires in the same transaction.

    Pairs of other versions that nobody has voted on leave the queue, but for the share that the project keeps, and the
    refill samples from the new version.
    Its files are hashed first, before anything is locked.

    Raises:
        VersionDamagedError: the files are not what the manifest says. Nothing changed.
        VersionNotPromotableError: it is current already, or was rejected.
    """
    folder = directory(settings.versions_dir, version.id)
    try:
        digest = verify(folder)
        check_base(folder)
    except ManifestError as error:
        raise VersionDamagedError(
            str(error), mend=_("Restore its directory from a backup, or train it again.")
        ) from error
    if digest != version.digest:
        raise VersionDamagedError(
            _(
                "%(folder)s has the digest %(digest)s, version %(number)s was registered with %(registered)s.",
                folder=folder,
                digest=digest,
                number=version.number,
                registered=version.digest,
            ),
            mend=_("Restore its directory from a backup, or train it again."),
        )
    project = db.get_one(Project, version.project_id)
    lock_versions(db, project)
    return _make_current(db, project, version, actor=actor, action=action)


def roll_back(db: Session, project: Project, *, actor: UUID | None, settings: Settings) -> Version:
    """Promote the version that was current before this one.

    Raises:
        NothingToRollBackToError: the current version is the first that ever was.
        VersionDamagedError: the earlier version's files are damaged.
    """
    earlier = predecessor(db, project)
    if earlier is None:
        raise NothingToRollBackToError(
            _("%(name)s has no version before the current one.", name=project.name),
            mend=_("Train another round instead."),
        )
    return promote(db, earlier, actor=actor, settings=settings, action="version.roll_back")


def reject(db: Session, version: Version, *, actor: UUID | None, reason: str = "") -> Version:
    """Put a candidate aside for good; its figures and files stay.

    Raises:
        VersionNotRejectableError: it is no candidate.
    """
    changed = db.scalar(
        update(Version)
        .where(Version.id == version.id, Version.state == "candidate")
        .values(state="rejected", gate_state=_ended())
        .returning(Version.id)
    )
    db.refresh(version)
    if changed is None:
        raise VersionNotRejectableError(version.number, version.state)
    withdraw_comparing(db, project=db.get_one(Project, version.project_id), version_id=version.id)
    data: dict[str, Any] = {"number": version.number} | ({"reason": reason} if reason else {})
    audit.record(
        db,
        actor_id=actor,
        project_id=version.project_id,
        action="version.reject",
        subject=f"version:{version.id}",
        **data,
    )
    return version


def _follow_rule(db: Session, project: Project, round_: Round, version: Version) -> Version:
    """Promote the fresh candidate if the project's rule says so, or let people compare it first.

    What the gate saw is kept with the version either way.
    """
    rule = db.execute(select(Project.promotion, Project.gate).where(Project.id == project.id)).one()
    if rule.promotion == "manual":
        return version
    bounds = gate_of(rule.gate)
    verdict = judge(version.metrics, bounds)
    version.metrics = version.metrics | {"gate": verdict.to_dict()}
    db.flush()
    now = current(db, project)
    if now is not None and now.id != version.parent_id:
        text = _(
            "not promoted: version %(number)s became the current one while this one was trained", number=now.number
        )
    elif rule.promotion == "gate" and not verdict.passed:
        text = _(
            "the gate did not promote version %(number)s: %(reasons)s",
            number=version.number,
            reasons=listed(verdict.reasons),
        )
    elif rule.promotion == "gate" and bounds.comparisons and now is not None:
        blind.open_gate(db, project, version)
        enqueue(db, REFILL, project.id)
        text = _(
            "the figures of version %(number)s pass the gate; %(comparisons)s blind comparisons with "
            "version %(opponent)s decide",
            number=version.number,
            comparisons=bounds.comparisons,
            opponent=now.number,
        )
    else:
        action = "version.promote_after_round" if rule.promotion == "after_round" else "version.pass_gate"
        events.add(
            db, round_.id, "note", text=_("version %(number)s was promoted", number=version.number), rule=rule.promotion
        )
        return _make_current(db, project, version, actor=None, action=action)
    events.add(db, round_.id, "note", text=text, rule=rule.promotion)
    return version


def _ended() -> Any:
    """An open gate ends with its candidacy."""
    return case((Version.gate_state == "open", "ended"), else_=Version.gate_state)


def _make_current(db: Session, project: Project, version: Version, *, actor: UUID | None, action: str) -> Version:
    state = db.scalar(select(Version.state).where(Version.id == version.id).with_for_update())
    if state not in ("candidate", "retired"):
        raise VersionNotPromotableError(version.number, str(state))
    now = func.clock_timestamp()
    retired = db.scalar(
        update(Version)
        .where(Version.project_id == project.id, Version.state == "current", Version.id != version.id)
        .values(state="retired", retired_at=now)
        .returning(Version.number)
    )
    db.execute(
        update(Version)
        .where(Version.id == version.id)
        .values(state="current", promoted_at=now, retired_at=None, gate_state=_ended())
        .execution_options(synchronize_session=False)
    )
    db.refresh(version)
    blind.end_gates(
        db,
        project,
        because=_("version %(number)s became the current one before they were through", number=version.number),
    )
    withdraw_comparing(db, project=project, version_id=version.id, kinds=("gate",))
    keep_percent = refilling_of(project.refilling).keep_percent
    withdrawn = withdraw_unvoted(db, project=project, sampled_by_other_than=version.id, keep_percent=keep_percent)
    # What stood in the way of sampling the old version need not stand in the way of the new one.
    db.execute(
        update(Project)
        .where(Project.id == project.id)
        .values(refill_problem=None, refill_failures=0, refill_due_at=None)
        .execution_options(synchronize_session=False)
    )
    enqueue(db, REFILL, project.id)
    audit.record(
        db,
        actor_id=actor,
        project_id=project.id,
        action=action,
        subject=f"version:{version.id}",
        number=version.number,
        replaced=retired,
        withdrawn=withdrawn,
    )
    return version


def lock_versions(db: Session, project: Project) -> None:
    """Versions of a project change one at a time."""
    db.execute(select(Project.id).where(Project.id == project.id).with_for_update(key_share=True))
