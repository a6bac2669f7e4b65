"""What a project keeps of a chat, as far as the token's owner allows: the conversation as a prompt, the answers as
completions that can be rated, and two of them as a comparison for reviewers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.comparisons.quality import alike, fault_of
from app.comparisons.queries import ready_count
from app.comparisons.service import create_comparison
from app.db.tables import ApiToken, Chat, ChatAnswer, Comparison, Completion, Project, Version
from app.engine.client import Sampled, Sampling
from app.engine.record import drawn, end_of, is_storable
from app.projects.refilling import refilling_of
from app.projects.schemas import SamplingSettings
from app.prompts.conversations import Conversation
from app.prompts.service import add_prompts
from app.versions.files import directory, end_tokens

MOST_WAITING = 10
"""Times ``buffer_size`` that comparisons may wait for reviewers; beyond, chats add none."""


@dataclass(frozen=True, slots=True)
class Chatted:
    """A chat that was answered."""

    id: UUID
    project_id: UUID
    version_id: UUID
    user_id: UUID
    token_id: UUID
    conversation: Conversation
    """In canonical form, which is also what the model saw."""
    sampled: Sampled | None
    """None where the engine did not say what it sampled: then there is nothing to train on."""
    sampling: Sampling
    seed: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What was kept."""

    prompt_id: UUID
    answers: bool
    comparison_id: UUID | None


def keeps_of(db: Session, token_id: UUID | None) -> str:
    """What the token's owner lets a project keep: 'nothing' (so of a browser's session), 'prompts' or 'answers'."""
    token = db.get(ApiToken, token_id) if token_id is not None else None
    return token.keeps if token is not None else "nothing"


def keep(db: Session, chat: Chatted, *, with_answers: bool, versions_dir: Path, rng: Random) -> Stored:
    """Store a chat. Conversations are deduplicated and held out by hash, as prompts from everywhere are.

    Raises:
        ManifestError: the version does not say which tokens end an answer.
    """
    project = db.get_one(Project, chat.project_id)
    added = add_prompts(db, project, [chat.conversation], source="chat", created_by=chat.user_id)
    prompt_id = added.outcomes[0].prompt.id
    if not with_answers or chat.sampled is None or not chat.sampled.prompt_ids:
        return Stored(prompt_id, answers=False, comparison_id=None)
    ends = end_tokens(directory(versions_dir, chat.version_id))
    db.add(Chat(id=chat.id, project_id=project.id, user_id=chat.user_id, token_id=chat.token_id, prompt_id=prompt_id))
    kept: list[Completion] = []
    for index, choice in enumerate(chat.sampled.choices):
        if not is_storable(choice):
            continue
        completion = Completion(
            project_id=project.id,
            prompt_id=prompt_id,
            version_id=chat.version_id,
            text=choice.text,
            prompt_ids=chat.sampled.prompt_ids,
            ids=choice.token_ids,
            end=end_of(choice, ends),
            sampling=drawn(chat.sampling, seed=chat.seed, n=len(chat.sampled.choices), index=index),
        )
        db.add(completion)
        db.flush()
        db.add(ChatAnswer(chat_id=chat.id, index=index, completion_id=completion.id))
        kept.append(completion)
    db.flush()
    fit = [answer for answer in kept if fault_of(answer) is None and not _cut_short(answer, project)]
    comparison = _compare(db, project, chat.version_id, fit, rng)
    return Stored(prompt_id, answers=bool(kept), comparison_id=comparison.id if comparison else None)


def _cut_short(answer: Completion, project: Project) -> bool:
    """Whether a limit or a stop of the client's own ended it, and not what the project samples with."""
    own, projects = answer.sampling, SamplingSettings.model_validate(project.sampling)
    if answer.end == "length":
        return bool(own["max_tokens"] < projects.max_tokens)
    return answer.end == "stop" and set(own["stop"]) != set(projects.stop)


def _compare(
    db: Session, project: Project, version_id: UUID, answers: Sequence[Completion], rng: Random
) -> Comparison | None:
    """The first two answers that differ enough, for reviewers; none of a version that is no longer the current one.

    The version's row is share-locked, as by the refill: a promotion waits for this, and then withdraws the pair.
    """
    similarity = refilling_of(project.refilling).similarity
    pair = next(((a, b) for a, b in combinations(answers, 2) if not alike(a, b, similarity)), None)
    if pair is None:
        return None
    state = db.scalar(select(Version.state).where(Version.id == version_id).with_for_update(read=True))
    if state != "current" or ready_count(db, project) >= MOST_WAITING * project.buffer_size:
        return None
    return create_comparison(
        db,
        project=project,
        completion_a=pair[0],
        completion_b=pair[1],
        slots=project.votes_per_comparison,
        rng=rng,
        strategy="chat",
    )
