"""The rules of the playground: who answers, on which side, what a choice becomes, and how a conversation goes on.

A turn's row is the truth. Whoever finishes the answers and whoever chooses lock it; the later of the two turns the
choice into a comparison and a vote, so that it happens once, in whichever process.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.comparisons.ballots import checked
from app.comparisons.direct import Kind, judge_directly
from app.comparisons.dwell import require_dwell
from app.comparisons.errors import PairInvalidError
from app.comparisons.in_hand import refuse_in_hand
from app.comparisons.records import Ballot, Choice
from app.db.base import utcnow
from app.db.tables import Completion, PlaygroundTurn, Project, Version
from app.language import _
from app.playground.errors import (
    ChosenError,
    NoModelError,
    NotYetError,
    TurnLostError,
    TurnNotFoundError,
    TurnTakenError,
)
from app.projects.archived import refuse_archived
from app.projects.queue import queue_of
from app.prompts.conversations import digest, normalise
from app.prompts.service import add_prompts
from app.versions.queries import current, predecessor

KEPT_UNCHOSEN = timedelta(days=7)
"""How long answers that nobody chose between are kept."""
SIDES = ("a", "b")


def open_turn(
    db: Session,
    project: Project,
    user_id: UUID,
    text: str,
    *,
    parent: PlaygroundTurn | None = None,
    side: str | None = None,
    max_chars: int,
    rng: Random,
    blind: bool = True,
) -> PlaygroundTurn:
    """Ask: the current version and one other (a candidate, else the version before, else itself), on random sides.

    Args:
        parent: the turn that this one goes on from, with the answer on ``side``; None: with the one that was chosen.
        blind: the person may be asked to judge these versions' answers elsewhere; so of everybody but admins.

    Raises:
        ProjectArchivedError: nobody is asked for a choice there.
        NoModelError: the project has no version yet.
        NotYetError: the parent's answers are not whole, or nobody chose between them.
        ConversationError: nothing was asked, or too much.
        PromptInHandError: they have answers to this to judge blind.
    """
    db.execute(
        delete(PlaygroundTurn).where(
            PlaygroundTurn.user_id == user_id,
            PlaygroundTurn.choice.is_(None),
            PlaygroundTurn.created_at < utcnow() - KEPT_UNCHOSEN,
        )
    )
    refuse_archived(project)
    now = current(db, project)
    if now is None:
        raise NoModelError(
            _("%(name)s has no version yet.", name=project.name), mend=_("An admin can see on the rounds page why.")
        )
    pair = [now.id, _other(db, project, now).id]
    rng.shuffle(pair)
    messages = normalise([*_so_far(parent, side), {"role": "user", "content": text}], max_chars=max_chars)
    if blind:
        refuse_in_hand(db, project_id=project.id, reviewer_id=user_id, digest=digest(messages))
    turn = PlaygroundTurn(
        project_id=project.id,
        user_id=user_id,
        parent_id=parent.id if parent else None,
        messages=messages,
        sampling=dict(project.sampling) | {"seeds": {side: secrets.randbits(31) for side in SIDES}},
        left_version_id=pair[0],
        right_version_id=pair[1],
    )
    db.add(turn)
    db.flush()
    return turn


def get_turn(db: Session, project: Project, user_id: UUID, turn_id: UUID, *, lock: bool = False) -> PlaygroundTurn:
    """A turn of this person's.

    Raises:
        TurnNotFoundError: none, or somebody else's.
    """
    query = select(PlaygroundTurn).where(
        PlaygroundTurn.id == turn_id, PlaygroundTurn.user_id == user_id, PlaygroundTurn.project_id == project.id
    )
    found = db.scalar(query.with_for_update() if lock else query, execution_options={"populate_existing": lock})
    if found is None:
        raise TurnNotFoundError(
            _("You have asked nothing with the id %(turn_id)s here.", turn_id=turn_id), mend=_("Ask anew.")
        )
    return found


def start_writing(db: Session, turn: PlaygroundTurn) -> None:
    """Take the right to write the answers, once.

    Raises:
        TurnTakenError: somebody has it, or had.
    """
    taken = db.scalar(
        update(PlaygroundTurn)
        .where(PlaygroundTurn.id == turn.id, PlaygroundTurn.state == "new")
        .values(state="streaming")
        .returning(PlaygroundTurn.id)
    )
    if taken is None:
        raise TurnTakenError(_("Another window writes these answers, or did."), mend=_("Look there, or ask anew."))


def finish_writing(db: Session, turn_id: UUID, answers: Mapping[str, Mapping[str, Any]], *, rng: Random) -> str:
    """Keep the answers of both sides; a choice that came meanwhile becomes a vote. The turn's new state.

    Args:
        answers: by side: text, ids, prompt_ids, end and sampling; or error.
    """
    turn = db.scalars(
        select(PlaygroundTurn).where(PlaygroundTurn.id == turn_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one()
    state = "failed" if any("error" in answers[side] for side in SIDES) else "done"
    turn.answers = {side: dict(answers[side]) for side in SIDES}
    _move(db, turn, "streaming", state)
    if turn.choice is not None and state == "done":
        _become_vote(db, turn, rng)
    return state


def leave(db: Session, turn_id: UUID) -> bool:
    """The person went away while the answers were written. Give them up unless a choice needs them; whether it does."""
    given_up = db.scalar(
        update(PlaygroundTurn)
        .where(PlaygroundTurn.id == turn_id, PlaygroundTurn.state == "streaming", PlaygroundTurn.choice.is_(None))
        .values(state="left")
        .returning(PlaygroundTurn.id)
    )
    return given_up is None


def choose(
    db: Session, project: Project, turn: PlaygroundTurn, choice: Choice, seconds: float | None, rng: Random
) -> None:
    """Store the choice, as seen; at once as a vote if the answers are whole. ``turn`` is locked. Twice is once.

    Raises:
        ChosenError: something else was chosen before.
        TurnLostError: there are no two answers, and will not be.
        VoteTooFastError, VoteInvalidError: as for any vote.
    """
    if turn.choice is not None:
        if turn.choice != choice:
            raise ChosenError(
                _("The versions have been shown, so another choice would not be blind."),
                mend=_("Ask another question."),
            )
        return
    refuse_archived(project)
    if turn.state not in ("streaming", "done"):
        raise TurnLostError(_("At least one of the answers was not written to its end."), mend=_("Ask again."))
    now = utcnow()
    ballot = checked(Ballot(choice, seconds=seconds), None)
    require_dwell(
        db,
        ballot,
        reviewer_id=turn.user_id,
        handed_out_at=turn.created_at,
        shown_at=turn.created_at,
        now=now,
        min_seconds=queue_of(project.queue).min_seconds,
    )
    turn.choice, turn.chosen_at, turn.seconds = choice, now, seconds
    db.flush()
    if turn.state == "done":
        _become_vote(db, turn, rng)


def version_of(turn: PlaygroundTurn, side: str) -> UUID:
    """Who wrote the answer on a side."""
    return turn.left_version_id if side == "a" else turn.right_version_id


def _other(db: Session, project: Project, now: Version) -> Version:
    candidates = select(Version).where(Version.project_id == project.id, Version.state == "candidate")
    newest = db.scalar(candidates.order_by(Version.number.desc()).limit(1))
    return newest or predecessor(db, project) or now


def _so_far(parent: PlaygroundTurn | None, side: str | None) -> list[dict[str, str]]:
    if parent is None:
        return []
    if parent.choice is None or parent.state != "done":
        raise NotYetError(
            _("The conversation goes on when both answers are whole and you have chosen."), mend=_("Choose first.")
        )
    taken = side if side in SIDES else parent.choice if parent.choice in SIDES else "a"
    return [*parent.messages, {"role": "assistant", "content": parent.answers[taken]["text"]}]


def _become_vote(db: Session, turn: PlaygroundTurn, rng: Random) -> None:
    """Prompt, completions, comparison and vote. Where the answers cannot be compared, or the project was archived
    meanwhile, the choice stays on the turn alone."""
    answers = [turn.answers[side] for side in SIDES]
    if not all(answer["storable"] for answer in answers) or answers[0]["ids"] == answers[1]["ids"]:
        return
    project = db.get_one(Project, turn.project_id)
    if project.archived_at is not None:
        return
    prompt = add_prompts(db, project, [turn.messages], source="playground", created_by=turn.user_id).outcomes[0].prompt
    left, right = (
        Completion(
            project_id=project.id,
            prompt_id=prompt.id,
            version_id=version_of(turn, side),
            text=turn.answers[side]["text"],
            prompt_ids=turn.answers[side]["prompt_ids"],
            ids=turn.answers[side]["ids"],
            end=turn.answers[side]["end"],
            sampling=turn.answers[side]["sampling"],
        )
        for side in SIDES
    )
    try:
        with db.begin_nested():
            db.add_all([left, right])
            db.flush()
            comparison = judge_directly(
                db,
                project=project,
                reviewer_id=turn.user_id,
                left=left,
                right=right,
                choice=turn.choice,  # type: ignore[arg-type]
                kind=_kind(db, turn),
                seconds=turn.seconds,
                shown_at=turn.created_at,
                now=turn.chosen_at or utcnow(),
                rng=rng,
            )
    except PairInvalidError:  # they read the same: there is nothing to prefer
        return
    turn.comparison_id = comparison.id
    db.flush()


def _kind(db: Session, turn: PlaygroundTurn) -> Kind:
    states = {db.get_one(Version, version_of(turn, side)).state for side in SIDES}
    if turn.left_version_id == turn.right_version_id:
        return "current"
    return "candidate" if "candidate" in states else "previous"


def _move(db: Session, turn: PlaygroundTurn, before: str, after: str) -> None:
    moved = db.scalar(
        update(PlaygroundTurn)
        .where(PlaygroundTurn.id == turn.id, PlaygroundTurn.state == before)
        .values(state=after)
        .returning(PlaygroundTurn.id)
    )
    if moved is None:
        raise TurnLostError(_("The turn is no longer %(before)s.", before=before), mend=_("Ask again."))
    db.refresh(turn, ["state"])
