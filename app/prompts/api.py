"""Prompts in the API."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from app.accounts import access
from app.accounts.principal import ProjectContext
from app.language import _
from app.prompts import queries, service
from app.prompts.conversations import Conversation, ConversationError, from_text, kind, normalise
from app.prompts.schemas import PromptIn, PromptOut, PromptPage, PromptsIn, PromptsOut, Result, Source
from app.versions.lengths import length_check
from app.web.deps import AppSettings, Db
from app.web.problems import problem

router = APIRouter(prefix="/api/v1/projects/{slug}/prompts", tags=["prompts"])


@router.post(
    "",
    status_code=201,
    responses={200: {"description": "Nothing new.", "model": PromptsOut}, 413: problem("`body_too_large`.")},
)
def add(
    body: PromptsIn,
    here: Annotated[ProjectContext, access.api_admin("prompts:write")],
    db: Db,
    settings: AppSettings,
    response: Response,
) -> PromptsOut:
    """Add up to 1000 prompts. Equal conversations are one prompt, so sending a batch again is harmless.

    Each prompt of the batch has its own result, in the same order. Bad ones (`refused`) say why: no user's turn at
    the end, too long for the current version's context, a key that is not read, … The good ones are kept, unless
    `all_or_nothing` is set. One that is here already and archived stays archived, and its result says so.
    201 if something new was stored, 200 if not.
    """
    check = length_check(db, here.project, settings=settings)
    good: list[tuple[int, Conversation]] = []
    results: dict[int, Result] = {}
    for index, item in enumerate(body.prompts):
        try:
            conversation = _conversation(item, settings.max_prompt_chars)
            problem = None if check is None else check(conversation)
        except ConversationError as error:
            problem = error.message
        if problem is None:
            good.append((index, conversation))
        else:
            results[index] = Result(index=index, status="refused", error=problem)
    refused = len(results)
    if refused and body.all_or_nothing:
        results |= {index: Result(index=index, status="dropped") for index, _row in good}
        good = []
    added = service.add_prompts(
        db,
        here.project,
        [conversation for _index, conversation in good],
        source="api",
        created_by=here.principal.user_id,
    )
    for (index, _turns), outcome in zip(good, added.outcomes, strict=True):
        status = "created" if outcome.created else "existing"
        prompt = outcome.prompt
        archived = prompt.archived_at is not None
        results[index] = Result(index=index, status=status, id=prompt.id, held_out=prompt.held_out, archived=archived)
    created = len(added.created)
    response.status_code = 201 if created else 200
    return PromptsOut(
        created=created,
        existing=len(added.existing),
        refused=refused,
        results=[results[index] for index in sorted(results)],
    )


@router.get("")
def list_prompts(
    here: Annotated[ProjectContext, access.api_admin("prompts:read")],
    db: Db,
    show: Annotated[queries.Show, Query(description="Which prompts.")] = "active",
    search: Annotated[str, Query(max_length=200, description="A text that one of the turns holds.")] = "",
    source: Annotated[Source | None, Query(description="Where they came from.")] = None,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> PromptPage:
    """Prompts of the project, newest first."""
    page = queries.page(db, here.project, show=show, search=search, source=source, before=cursor, limit=limit)
    return PromptPage(items=[PromptOut.model_validate(prompt) for prompt in page.prompts], next_cursor=page.next_cursor)


@router.get("/{prompt_id}")
def read(prompt_id: UUID, here: Annotated[ProjectContext, access.api_admin("prompts:read")], db: Db) -> PromptOut:
    """One prompt."""
    return PromptOut.model_validate(queries.get(db, here.project, prompt_id))


@router.post("/{prompt_id}/archive")
def archive(prompt_id: UUID, here: Annotated[ProjectContext, access.api_admin("prompts:write")], db: Db) -> PromptOut:
    """Put a prompt aside: no new pairs are made of it. Its votes stay. Doing it twice changes nothing."""
    return PromptOut.model_validate(service.archive(db, here.project, prompt_id, actor=here.principal.user_id))


@router.post("/{prompt_id}/unarchive")
def unarchive(prompt_id: UUID, here: Annotated[ProjectContext, access.api_admin("prompts:write")], db: Db) -> PromptOut:
    """Take a prompt back into use; one that was passed over for a problem is tried again."""
    return PromptOut.model_validate(service.unarchive(db, here.project, prompt_id, actor=here.principal.user_id))


def _conversation(item: Any, max_chars: int) -> Conversation:
    if not isinstance(item, dict):
        raise ConversationError(
            _("a prompt must be an object with 'prompt' or 'messages', not %(item)s", item=kind(item))
        )
    unknown = sorted(item.keys() - PromptIn.model_fields.keys())
    if unknown:
        told = _("%(unknown)s is not read here; leave only 'prompt' or 'messages'", unknown=repr(unknown[0]))
        raise ConversationError(told)
    given = [(key, value) for key, value in item.items() if value is not None]
    if len(given) != 1:
        raise ConversationError(_("give either 'prompt' or 'messages', and only one of them"))
    [(key, value)] = given
    return (from_text if key == "prompt" else normalise)(value, max_chars=max_chars)
