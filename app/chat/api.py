"""``/v1/chat/completions`` of the web app."""

import secrets
import time
from typing import Annotated

from fastapi import APIRouter, Request

from app.accounts import access
from app.accounts.principal import Principal
from app.chat import service
from app.chat.schemas import ChatCompletion, ChatRequest, Choice, Message, Usage
from app.engine.client import EngineClient, Sampled, Sampling
from app.engine.errors import EngineRefused
from app.errors import InvalidError
from app.web.deps import Db

router = APIRouter(prefix="/v1", tags=["chat"])


class ConversationTooLongError(InvalidError):
    """Conversation and answer do not fit in the model's context."""

    code = "context_length_exceeded"
    title = "Too long for the model"


@router.post("/chat/completions", summary="Talk to a project's current version")
def chat_completions(
    body: ChatRequest, me: Annotated[Principal, access.api_by_id("chat", "reviewer")], db: Db, request: Request
) -> ChatCompletion:
    """Continues a conversation, in the shape of OpenAI's API.

    `model` is a project's slug; its current version answers. Admins of the project may name a version, `demo@2`.
    Sampling settings that are left out are the project's own.
    """
    target = service.resolve(db, body.model, user_id=me.user_id, is_site_admin=me.is_site_admin)
    db.commit()  # the connection goes back: no transaction stays open while a model thinks
    sampled = _sample(request.app.state.engine_client, target, body)
    written = sum(len(choice.token_ids) for choice in sampled.choices)
    return ChatCompletion(
        id=f"chatcmpl-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=target.name,
        choices=[
            Choice(
                index=index, message=Message(role="assistant", content=choice.text), finish_reason=choice.finish_reason
            )
            for index, choice in enumerate(sampled.choices)
        ],
        usage=Usage(
            prompt_tokens=len(sampled.prompt_ids),
            completion_tokens=written,
            total_tokens=len(sampled.prompt_ids) + written,
        ),
    )


def _sample(engine: EngineClient, target: service.Target, body: ChatRequest) -> Sampled:
    given = body.model_dump(include={"temperature", "top_p", "max_tokens"}, exclude_none=True)
    sampling = {**target.sampling, **given}
    stop = body.stop if body.stop is not None else sampling.get("stop", ())
    sampling["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    seed = body.seed if body.seed is not None else secrets.randbits(62)
    messages = [message.model_dump() for message in body.messages]
    try:
        return engine.chat(target.engine_model, messages, Sampling(**sampling), n=body.n, seed=seed)
    except EngineRefused as error:
        if error.code == "context_length_exceeded":
            raise ConversationTooLongError(
                error.message, mend="Shorten the conversation, or ask for fewer tokens with max_tokens."
            ) from error
        raise
