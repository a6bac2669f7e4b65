"""The gate's decision, once all of a candidate's blind comparisons are judged."""

import logging
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import logs
from app.comparisons.service import withdraw_comparing
from app.db.tables import Project, Round, Version
from app.journal import audit
from app.language import _, listed
from app.language.figures import Percent
from app.projects.refilling import gate_of
from app.rounds import blind, events
from app.rounds.errors import VersionDamagedError
from app.rounds.gate import Verdict, judge, judge_blind
from app.rounds.promotion import lock_versions, promote
from app.settings import Settings

logger = logging.getLogger(__name__)


def open_gates(db: Session) -> list[tuple[UUID, UUID]]:
    """Candidates that people compare at present, each with its project."""
    query = select(Version.id, Version.project_id).join(Project, Project.id == Version.project_id)
    query = query.where(Version.gate_state == "open", Project.archived_at.is_(None)).order_by(Version.id)
    return [(version_id, project_id) for version_id, project_id in db.execute(query)]


def decide(db: Session, version_id: UUID, *, settings: Settings) -> bool:
    """Promote the candidate or leave it, if its comparisons are judged; whether that was decided now.

    However many ask at once, one decides. A gate whose project has changed its rule since ends without a verdict.
    """
    version = db.get_one(Version, version_id)
    project = db.get_one(Project, version.project_id)
    lock_versions(db, project)
    db.refresh(project)
    if project.promotion != "gate":
        blind.end_gates(db, project, because=_("the project does not promote by the gate any more"))
        return False
    bounds = gate_of(project.gate)
    if blind.standing(db, project, version).judged < bounds.comparisons:
        return False
    seen = blind.result(db, project, version)
    verdict = judge_blind(judge(version.metrics, bounds), seen, bounds)
    if not _close(db, version, verdict):
        return False
    told: str
    if verdict.passed:
        try:
            with db.begin_nested():
                promote(db, version, actor=None, settings=settings, action="version.pass_gate")
        except VersionDamagedError as error:
            with logs.about(project=str(project.id), slug=project.slug):
                logger.exception("version %s passed the gate, and is damaged", version.id)
            told = _(
                "version %(number)s passed the gate, but its files are damaged: %(error)s",
                number=version.number,
                error=error,
            )
        else:
            told = _(
                "version %(number)s was promoted; blind comparisons with version %(opponent)s: %(told)s",
                number=version.number,
                opponent=seen.opponent,
                told=_told(verdict),
            )
    else:
        withdraw_comparing(db, project=project, version_id=version.id, kinds=("gate",))
        told = _(
            "the gate did not promote version %(number)s: %(reasons)s",
            number=version.number,
            reasons=listed(verdict.reasons),
        )
        audit.record(
            db,
            actor_id=None,
            project_id=project.id,
            action="version.fail_gate",
            subject=f"version:{version.id}",
            number=version.number,
            reasons=verdict.reasons,
        )
    made_by = db.scalar(select(Round.id).where(Round.version_id == version.id))
    if made_by is not None:
        events.add(db, made_by, "note", text=told, rule="gate")
    return True


def _close(db: Session, version: Version, verdict: Verdict) -> bool:
    closed = db.scalar(
        update(Version)
        .where(Version.id == version.id, Version.gate_state == "open", Version.state == "candidate")
        .values(
            gate_state="passed" if verdict.passed else "failed", metrics=version.metrics | {"gate": verdict.to_dict()}
        )
        .returning(Version.id)
        .execution_options(synchronize_session=False)
    )
    db.refresh(version)
    return closed is not None


def _told(verdict: Verdict) -> str:
    seen = verdict.blind
    if seen is None or seen.win_rate is None or seen.low is None or seen.high is None:
        return _("none were judged")
    return _(
        "it won %(share)s of %(total)s (95% interval %(low)s to %(high)s)",
        share=Percent(seen.win_rate),
        total=seen.judged,
        low=Percent(seen.low),
        high=Percent(seen.high),
    )
