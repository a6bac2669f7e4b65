"""The door for API clients, over HTTP, with a real engine behind it."""

import contextlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import APIError, AuthenticationError, BadRequestError, NotFoundError, OpenAI, PermissionDeniedError
from sqlalchemy import select, text

from app.comparisons.service import lease_next
from app.db.session import transaction
from app.db.tables import ApiUsage, Chat, ChatAnswer, Comparison, ComparisonSlot, Completion, User, Version
from app.prompts.conversations import is_held_out
from app.rounds.service import promote
from tests.browser.server import serving
from tests.factories.rows import make_comparison, make_prompt, make_user, make_version
from tests.fixtures.talking import Talking
from tests.unit.engine_servers import STREAM_HEAD, chunked, server

QUESTION = {"role": "user", "content": "How do I keep basil alive indoors?"}
HALF = b'data: {"choices":[{"index":0,"delta":{"content":"Half"},"token_ids":[5]}],"prompt_token_ids":[1]}\n\n'
OpenTalk = Callable[..., Talking]


def ask(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/chat/completions", json={"model": "demo", "messages": [QUESTION]} | body)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The stream's events; it must have been ended as it should."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]", lines[-1]
    return [json.loads(line) for line in lines[:-1]]


def eventually(ask: Callable[[], bool], explain: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + 60
    while not ask():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


def test_a_whole_answer_and_a_streamed_one_are_the_same(talk: Talking) -> None:
    client = talk.client()
    whole = ask(client, seed=5, n=2, temperature=0.9).json()
    assert (whole["object"], whole["model"], whole["hone"]) == ("chat.completion", "demo@1", {"kept": "nothing",
        "why": None, "prompt_id": None, "comparison_id": None})  # fmt: skip
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
    answer = ask(client, seed=5, n=2, temperature=0.9, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = events(answer)
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    texts, reasons = ["", ""], ["", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
            reasons[choice["index"]] = choice["finish_reason"] or reasons[choice["index"]]
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]
    assert reasons == [choice["finish_reason"] for choice in whole["choices"]]
    assert chunks[-1]["usage"] == whole["usage"]
    assert talk.prompts() == [], "a token keeps nothing unless its owner says so"


def test_what_clients_send_beside_the_question_is_taken_or_refused_by_name(talk: Talking) -> None:
    client = talk.client()
    taken = ask(
        client, user="u1", metadata={"a": "b"}, presence_penalty=0.0, response_format={"type": "text"},
        max_completion_tokens=4, messages=[{"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    )  # fmt: skip
    assert taken.status_code == 200, taken.text
    assert taken.json()["usage"]["completion_tokens"] <= 4
    turn = {
        "role": "assistant",
        "content": "Light.",
        "refusal": None,
        "annotations": [],
        "tool_calls": None,
        "audio": None,
    }
    neutral = ask(
        client, n=None, stream=None, tools=[], tool_choice="none", logit_bias={}, parallel_tool_calls=False,
        modalities=["text"], top_logprobs=None, functions=None, seed=-3, top_p=0, max_tokens=2,
        messages=[QUESTION, turn, {"role": "user", "content": "And water?"}],
    )  # fmt: skip
    assert neutral.status_code == 200, neutral.text
    for field, wrong in [
        ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("tool_choice", {"tool_choice": "required"}),
        ("frequency_penalty", {"frequency_penalty": 0.5}),
        ("n", {"n": 17}),
        ("messages.0.tool_calls", {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]}),
        ("body", {"stream_options": {"include_usage": True}}),
        ("body", {"max_tokens": 4, "max_completion_tokens": 5}),
        ("stop", {"stop": ["x"] * 9}),
        ("stop", {"stop": "a\x00"}),
        ("stop", {"stop": "\udc00"}),
    ]:
        sent = json.dumps({"model": "demo", "messages": [QUESTION]} | wrong).encode()
        refused = client.post("/chat/completions", content=sent, headers={"Content-Type": "application/json"})
        assert refused.status_code == 400, wrong
        error = refused.json()["error"]
        assert (error["type"], error["param"], error["mend"]) == (
            "invalid_request_error", field, "Correct it and send it again."), wrong  # fmt: skip
        assert error["message"]
    half = b'{"model":"demo","messages":[{"role":"user","content":"\\ud800"}]}'
    broken = client.post("/chat/completions", content=half, headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["code"]) == (400, "text_broken")


def test_what_is_refused_has_the_exceptions_of_openais_client(talk: Talking) -> None:
    with OpenAI(base_url=talk.base_url, api_key=talk.token(), max_retries=0) as client:
        with pytest.raises(BadRequestError) as bad:
            client.chat.completions.create(model="demo", messages=[QUESTION], temperature=3)  # type: ignore[list-item]
        assert (bad.value.param, bad.value.type, bad.value.code) == ("temperature", "invalid_request_error", "invalid")
        assert bad.value.body["errors"][0]["field"] == "temperature"  # type: ignore[index]
        with pytest.raises(NotFoundError) as unknown:
            client.chat.completions.create(model="nothing", messages=[QUESTION])  # type: ignore[list-item]
        assert (unknown.value.code, unknown.value.type) == ("model_not_found", "invalid_request_error")
        assert unknown.value.response.headers["x-ratelimit-limit-requests"]
        assert unknown.value.body["mend"].startswith("Name a project of yours")  # type: ignore[index]
    with OpenAI(base_url=talk.base_url, api_key="hone_nothing", max_retries=0) as stranger:
        with pytest.raises(AuthenticationError) as who:
            stranger.models.list()
        assert who.value.type == "authentication_error"


def test_the_conversation_becomes_a_prompt_if_the_tokens_owner_allows_it(talk: Talking) -> None:
    client = talk.client(keeps="prompts")
    for _ in range(2):  # the second time with another spelling of the same
        answer = ask(client, messages=[{"role": "user", "content": QUESTION["content"] + " \r\n"}])
        assert answer.json()["hone"]["kept"] == "prompt"
    refused = ask(client, store=False).json()["hone"]
    assert (refused["kept"], refused["why"]) == ("nothing", "The request said `store: false`.")
    odd = ask(client, messages=[QUESTION, {"role": "user", "content": "Twice."}])
    assert odd.status_code in (200, 400)
    if odd.status_code == 200:
        assert "user and assistant take turns" in odd.json()["hone"]["why"]
    (prompt,) = talk.prompts()
    assert (prompt.source, prompt.messages) == ("chat", [QUESTION])
    assert prompt.held_out == is_held_out(talk.project.id, prompt.digest, talk.project.held_out_percent)
    assert prompt.created_by == talk.reviewer.id
    with talk.server.db() as db:
        assert db.scalars(select(Completion)).all() == []


def test_two_answers_become_a_comparison_with_their_tokens_and_settings(talk: Talking) -> None:
    client = talk.client(keeps="answers")
    answer = ask(client, n=2, seed=11, temperature=1.1, stop=["###"]).json()
    kept = answer["hone"]
    assert kept["kept"] == "answers"
    with talk.server.db() as db:
        comparison = db.scalars(select(Comparison)).one()
        assert str(comparison.id) == kept["comparison_id"]
        assert (comparison.strategy, comparison.state) == ("chat", "open")
        assert len(db.scalars(select(ComparisonSlot)).all()) == talk.project.votes_per_comparison
        chat = db.scalars(select(Chat)).one()
        assert answer["id"] == f"chatcmpl-{chat.id.hex}"
        rows = db.scalars(select(ChatAnswer).order_by(ChatAnswer.index)).all()
        completions = [db.get_one(Completion, row.completion_id) for row in rows]
        assert [completion.text for completion in completions] == [
            choice["message"]["content"] for choice in answer["choices"]
        ]
        for index, completion in enumerate(completions):
            assert completion.version_id == talk.version.id
            assert len(completion.prompt_ids) == answer["usage"]["prompt_tokens"]
            assert completion.sampling == {"temperature": 1.1, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "max_tokens": 48,
                                           "stop": ["###"], "seed": 11, "n": 2, "index": index}  # fmt: skip
        assert sum(len(completion.ids) for completion in completions) == answer["usage"]["completion_tokens"]
    again = ask(client, n=2, seed=12, stream=True)
    closing = [chunk for chunk in events(again) if chunk["choices"] and chunk["choices"][0]["finish_reason"]]
    assert [chunk["hone"]["prompt_id"] for chunk in closing] == [kept["prompt_id"]] * 2


def test_answers_that_nobody_could_compare_become_no_pair(talk: Talking) -> None:
    client = talk.client(keeps="answers")
    for cut in ({"max_tokens": 1}, {"stop": ["a", "e", "i", "o", "u"]}):
        kept = ask(client, n=4, seed=11, temperature=1.5, **cut).json()["hone"]
        assert (kept["kept"], kept["comparison_id"]) == ("answers", None), "the client cut them short"
    with talk.server.db() as db:
        assert db.scalars(select(Comparison)).all() == []


def test_a_version_that_is_not_the_current_one_makes_no_comparison(talk: Talking) -> None:
    talk.add_version()
    client = talk.client(talk.admin, keeps="answers")
    kept = ask(client, model="demo@2", n=2).json()["hone"]
    assert (kept["kept"], kept["comparison_id"]) == ("answers", None)


@pytest.mark.parametrize("stream", [True, False])
def test_whoever_hangs_up_ends_the_sampling(talk: Talking, stream: bool) -> None:
    def cancelled() -> int:
        return talk.engine.log.read_text().count("outcome=cancelled")

    before = cancelled()
    client = talk.client()
    body = {"model": "demo", "messages": [QUESTION], "stream": stream, "n": 16, "max_tokens": 400, "temperature": 2}
    if stream:
        with client.stream("POST", "/chat/completions", json=body) as response:
            next(response.iter_lines())
        eventually(lambda: cancelled() == before + 1, talk.engine.log.read_text)
        return
    for patience in (0.05, 0.1, 0.2, 0.4, 0.8):  # seconds; too short on a busy machine, too long on a fast one
        with contextlib.suppress(httpx.ReadTimeout):
            client.post("/chat/completions", json=body, timeout=httpx.Timeout(30, read=patience))
    eventually(lambda: cancelled() > before, talk.engine.log.read_text)


def test_no_transaction_and_no_connection_is_held_while_a_model_writes(talk: Talking) -> None:
    """The pool has 5 connections and 5 more: 14 streams at once leave all of them free."""
    clients = [talk.client(talk.admin) for _ in range(14)]
    body = {"model": "demo", "messages": [QUESTION], "stream": True, "max_tokens": 300, "temperature": 1.5}
    opened = [client.stream("POST", "/chat/completions", json=body) for client in clients]
    try:
        for stream in opened:
            next(stream.__enter__().iter_lines())
        assert clients[0].get("/models", timeout=20).status_code == 200
    finally:
        for stream in opened:
            stream.__exit__(None, None, None)


def test_requests_that_wait_for_a_model_keep_nobody_waiting(open_talk: OpenTalk) -> None:
    """More of them than there are connections, of a model that says nothing."""
    with ThreadPoolExecutor(4) as pool, server(STREAM_HEAD, chunked(HALF), hold=True) as url:
        talk = open_talk(engine_url=url, database_pool_size=2)
        client = talk.client()
        waiting = [pool.submit(ask, client, stream=stream) for stream in (False, True) * 2]
        time.sleep(1)
        assert httpx.get(f"{talk.server.url}/login", timeout=5).status_code == 200
        assert [request.done() for request in waiting].count(False) >= 3, "they waited meanwhile"


@pytest.mark.parametrize("stream", [True, False])
def test_no_transaction_is_open_while_the_model_is_silent(open_talk: OpenTalk, stream: bool) -> None:
    with ThreadPoolExecutor(1) as pool, server(STREAM_HEAD, chunked(HALF), hold=True) as url:
        talk = open_talk(engine_url=url)
        client = talk.client(keeps="answers")
        waiting = pool.submit(ask, client, stream=stream)

        def counted() -> bool:
            with talk.server.db() as db:
                return db.scalars(select(ApiUsage)).all() != []

        eventually(counted)  # visible to others: it was committed before the model was asked
        with talk.server.db() as db:
            states = db.scalars(
                text("select state from pg_stat_activity where datname = current_database()"
                     " and pid <> pg_backend_pid()")
            ).all()  # fmt: skip
        assert set(states) <= {"idle"}
        assert not waiting.done()


def test_a_promotion_drops_no_stream(talk: Talking) -> None:
    second = talk.add_version()
    token = talk.token(talk.admin)
    done = []

    def one(number: int) -> str:
        client = OpenAI(base_url=talk.base_url, api_key=token, max_retries=0, timeout=120)
        words, model = 0, ""
        for chunk in client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": f"Question {number}"}], stream=True, max_tokens=120
        ):
            words, model = words + len(chunk.choices), chunk.model
        done.append(number)
        assert words > 1
        return model

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(one, number) for number in range(24)]
        eventually(lambda: len(done) >= 6)
        with transaction(talk.server.factory) as db:
            promote(db, db.get_one(Version, second.id), actor=None, settings=talk.server.settings)
        models = [future.result() for future in asked]
    assert set(models) == {"demo@1", "demo@2"}


def test_the_names_of_models(talk: Talking, open_talk: OpenTalk) -> None:
    talk.add_version()
    with talk.server.db() as db:
        stranger = make_user(db)
    reviewer, admin, outside = (OpenAI(base_url=talk.base_url, api_key=talk.token(user))
                                for user in (talk.reviewer, talk.admin, stranger))  # fmt: skip
    assert [model.id for model in reviewer.models.list()] == ["demo"]
    assert [model.id for model in admin.models.list()] == ["demo", "demo@1", "demo@2"]
    assert [model.id for model in outside.models.list()] == []
    assert reviewer.models.retrieve("demo").id == "demo"
    with pytest.raises(NotFoundError):
        outside.models.retrieve("demo")
    with pytest.raises(PermissionDeniedError):
        reviewer.chat.completions.create(model="demo@2", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(NotFoundError) as unknown:
        admin.chat.completions.create(model="demo@9", messages=[{"role": "user", "content": "Hi"}])
    assert unknown.value.code == "model_not_found"


def test_limits_hold_over_several_web_processes_and_say_when_to_come_back(open_talk: OpenTalk) -> None:
    talk = open_talk(chat_requests_per_minute=3)
    client = talk.client()
    with serving(talk.server.settings.database_url, talk.engine.data, engine_url=talk.engine.url,
                 chat_requests_per_minute=3) as other:  # fmt: skip
        answers = [ask(client, max_tokens=1)]
        answers += [client.post(f"{other.url}/v1/chat/completions", json={"model": "none", "messages": [QUESTION]})]
        answers += [ask(client, max_tokens=1), ask(client, max_tokens=1)]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "2"
    assert answers[2].headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    assert answers[3].json()["error"]["code"] == "rate_limit_exceeded"
    assert ask(talk.client(requests_per_minute=100), max_tokens=1).headers["x-ratelimit-limit-requests"] == "100"


def test_more_keys_are_no_more_requests_than_a_person_may_send(open_talk: OpenTalk) -> None:
    talk = open_talk(chat_requests_per_minute=1, chat_person_keys=1)  # one more every minute
    answers = [ask(talk.client(), max_tokens=1) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(answers[1].headers["retry-after"]) <= 60
    assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"
    assert ask(talk.client(talk.admin), max_tokens=1).status_code == 200, "somebody else"


def test_a_days_quota_counts_what_was_used(open_talk: OpenTalk) -> None:
    talk = open_talk(chat_tokens_per_day=1000)
    client = talk.client()
    used = ask(client, max_tokens=20).json()["usage"]["total_tokens"]
    with talk.server.db() as db:
        assert db.scalars(select(ApiUsage.day_tokens)).all() == [used, used], "of the key, and of its owner"
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events(ask(client, stream=True)))
    refused = ask(client, n=15, max_tokens=64)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert int(refused.headers["retry-after"]) > 1
    hopeless = ask(client, n=16, max_tokens=64)
    assert (hopeless.status_code, hopeless.json()["code"]) == (400, "quota_too_small")
    assert "retry-after" not in hopeless.headers, "tomorrow's quota is no larger"


def test_a_reviewer_cannot_ask_the_current_version_about_a_pair_to_be_judged_blind(talk: Talking) -> None:
    with talk.server.db() as db:
        project = db.merge(talk.project)
        other = make_version(db, project, number=7, state="candidate")
        prompt = make_prompt(db, project, messages=[QUESTION])
        make_comparison(db, project, prompt=prompt, versions=(db.merge(talk.version), other))
    reviewer, admin = talk.client(), talk.client(talk.admin)
    assert ask(reviewer, max_tokens=1).status_code == 200
    with talk.server.db() as db:
        assert lease_next(db, project=db.merge(talk.project), reviewer_id=talk.reviewer.id) is not None
    refused = ask(reviewer, max_tokens=1)
    assert (refused.status_code, refused.json()["code"]) == (409, "prompt_in_review")
    assert refused.headers["x-should-retry"] == "false"
    assert ask(reviewer, max_tokens=1, messages=[{"role": "user", "content": "Another."}]).status_code == 200
    assert ask(admin, max_tokens=1).status_code == 200


def test_whoever_hangs_up_pays_for_what_was_read(open_talk: OpenTalk) -> None:
    talk = open_talk(chat_tokens_per_day=100_000)
    client = talk.client()
    body = {"model": "demo", "messages": [{"role": "user", "content": "basil and thyme " * 20}], "stream": True}
    read = ask(talk.client(), messages=body["messages"], max_tokens=1).json()["usage"]["prompt_tokens"]
    with client.stream("POST", "/chat/completions", json=body | {"max_tokens": 300, "n": 8}) as response:
        for line in response.iter_lines():
            if '"content":"' in line and '"content":""' not in line:
                break

    def used() -> int:
        with talk.server.db() as db:
            return min(db.scalars(select(ApiUsage.day_tokens).where(ApiUsage.day_tokens > read + 1)), default=0)

    eventually(lambda: read < used() < read + 8 * 300, lambda: f"{used()} used, {read} read")


def test_bodies_and_conversations_that_are_too_large(open_talk: OpenTalk) -> None:
    talk = open_talk(chat_max_body_bytes=4096, max_prompt_chars=1000)
    client = talk.client()
    large = ask(client, messages=[{"role": "user", "content": "x" * 5000}])
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
    assert "HONE_CHAT_MAX_BODY_BYTES" in large.json()["mend"]
    long = ask(client, messages=[{"role": "user", "content": "x" * 2000}])
    assert (long.status_code, "1,000" in long.json()["detail"]) == (400, True)


def test_what_does_not_fit_the_context_is_shortened_or_refused(open_talk: OpenTalk) -> None:
    talk = open_talk(sampling={"max_tokens": 480})
    client = talk.client()
    fits = ask(client, messages=[{"role": "user", "content": "one two three four five " * 20}])
    assert fits.status_code == 200, "the project's longest answer is a wish, not a demand"
    demanded = ask(client, messages=[{"role": "user", "content": "one two three four five " * 20}], max_tokens=480)
    assert (demanded.status_code, demanded.json()["code"]) == (400, "context_length_exceeded")
    hopeless = ask(client, messages=[{"role": "user", "content": "one two three four five " * 300}], stream=True)
    assert (hopeless.status_code, hopeless.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_an_engine_that_is_away(open_talk: OpenTalk) -> None:
    talk = open_talk(engine_url="http://127.0.0.1:9")
    for stream in (False, True):
        away = ask(talk.client(), stream=stream)
        assert (away.status_code, away.json()["code"]) == (503, "engine_unavailable")
        assert int(away.headers["retry-after"]) >= 1
        assert "127.0.0.1" not in away.text
    with talk.server.db() as db:
        assert set(db.scalars(select(ApiUsage.day_tokens))) == {0}, "what was reserved was given back"


def test_an_engine_that_dies_in_mid_sentence(open_talk: OpenTalk) -> None:
    with server(STREAM_HEAD, chunked(HALF)) as url:
        talk = open_talk(engine_url=url)
        client = OpenAI(base_url=talk.base_url, api_key=talk.token(keeps="answers"), max_retries=0)
        said = []
        chunks = client.chat.completions.create(model="demo", messages=[QUESTION], stream=True)  # type: ignore[list-item]

        def read() -> None:
            for chunk in chunks:
                said.extend(choice.delta.content or "" for choice in chunk.choices)

        with pytest.raises(APIError, match="does not answer"):
            read()
    assert "".join(said) == "Half"
    assert talk.prompts() == []


def test_a_forgotten_user_cannot_talk(talk: Talking) -> None:
    client = talk.client()
    with talk.server.db() as db:
        db.get_one(User, talk.reviewer.id).is_active = False
    refused = ask(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "not_signed_in")
