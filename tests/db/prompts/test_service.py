"""Prompts in Postgres: each conversation once, whoever adds it and however often."""

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.db.session import make_session_factory, transaction
from app.db.tables import OutboxMessage, Project, Prompt, PromptUpload
from app.errors import NotFoundError
from app.prompts import queries
from app.prompts.conversations import from_text
from app.prompts.service import add_prompts, archive, keep_upload, unarchive
from app.prompts.upload import UploadInvalidError
from tests.factories import rows


def asked(*texts: str) -> list[Any]:
    return [from_text(text, max_chars=1000) for text in texts]


def upload(db: Session, project: Project, *lines: str, **options: Any) -> PromptUpload:
    options = {"all_or_nothing": False, "max_chars": 1000} | options
    return keep_upload(db, project, "\n".join(lines).encode(), "prompts.jsonl", **options)


@pytest.fixture
def project(db: Session) -> Project:
    return rows.make_project(db, slug="tone")


def test_equal_prompts_are_one_row(db: Session, project: Project) -> None:
    first = add_prompts(db, project, asked("One", "Two", "One  "), source="form")
    assert [outcome.created for outcome in first.outcomes] == [True, True, False]
    assert first.outcomes[0].prompt is first.outcomes[2].prompt
    again = add_prompts(db, project, asked("Two", "Three"), source="api")
    assert [prompt.messages[0]["content"] for prompt in again.created] == ["Three"]
    assert [prompt.id for prompt in again.existing] == [first.outcomes[1].prompt.id]
    assert db.scalar(select(func.count()).select_from(Prompt)) == 3
    assert again.existing[0].source == "form"


def test_the_same_prompt_in_another_project_is_another_row(db: Session, project: Project) -> None:
    other = rows.make_project(db)
    assert add_prompts(db, project, asked("One"), source="form").created
    assert add_prompts(db, other, asked("One"), source="form").created


def test_new_prompts_wake_the_refill_and_known_ones_do_not(db: Session, project: Project) -> None:
    add_prompts(db, project, asked("One"), source="form")
    sends = select(OutboxMessage.task, OutboxMessage.args)
    assert [tuple(row) for row in db.execute(sends)] == [("hone.refill", [str(project.id)])]
    add_prompts(db, project, asked("One"), source="form")
    assert len(db.execute(sends).all()) == 1
    assert add_prompts(db, project, [], source="form").outcomes == []


def test_about_a_tenth_is_held_out_and_stays_so(db: Session, project: Project) -> None:
    added = add_prompts(db, project, asked(*map(str, range(2500))), source="form")
    held = sum(prompt.held_out for prompt in added.created)
    assert 190 <= held <= 310  # 250 expected, standard deviation 15
    project.held_out_percent = 0
    again = add_prompts(db, project, asked(*map(str, range(2500))), source="form")
    assert sum(prompt.held_out for prompt in again.existing) == held


def test_two_uploads_at_once_do_not_double_or_deadlock(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        project = rows.make_project(db)
    texts = [str(number) for number in range(400)]
    barrier = threading.Barrier(2)
    created: list[int] = []

    def add(texts: list[str]) -> None:
        barrier.wait()
        with transaction(factory) as db:
            created.append(len(add_prompts(db, project, asked(*texts), source="api").created))

    threads = [threading.Thread(target=add, args=(order,)) for order in (texts, texts[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(created) == 400
    with factory() as db:
        assert db.scalar(select(func.count()).select_from(Prompt)) == 400


def test_an_upload_keeps_its_good_rows_and_names_the_bad(db: Session, project: Project) -> None:
    add_prompts(db, project, asked("Known"), source="form")
    kept = upload(db, project, '{"prompt": "New"}', "{", '{"prompt": "Known"}', '{"prompt": ""}', '{"prompt": "New"}')
    assert (kept.created_count, kept.existing_count, kept.refused_count, kept.dropped_count) == (1, 2, 2, 0)
    assert [error["line"] for error in kept.errors] == [2, 4]
    assert db.scalar(select(func.count()).select_from(Prompt)) == 2
    assert queries.get_upload(db, project, kept.id).filename == "prompts.jsonl"
    with pytest.raises(NotFoundError):
        queries.get_upload(db, rows.make_project(db), kept.id)


def test_all_or_nothing_keeps_nothing_when_one_row_is_bad(db: Session, project: Project) -> None:
    kept = upload(db, project, '{"prompt": "A"}', "{", '{"prompt": "B"}', all_or_nothing=True)
    assert (kept.created_count, kept.refused_count, kept.dropped_count) == (0, 1, 2)
    assert db.scalar(select(func.count()).select_from(Prompt)) == 0
    whole = upload(db, project, '{"prompt": "A"}', '{"prompt": "B"}', all_or_nothing=True)
    assert (whole.created_count, whole.refused_count, whole.dropped_count) == (2, 0, 0)


def test_prompts_too_long_for_the_model_are_bad_rows(db: Session, project: Project) -> None:
    def check(conversation: list[dict[str, str]]) -> str | None:
        words = len(conversation[0]["content"].split())
        return None if words < 3 else f"{words} tokens, the model reads at most 2"

    kept = upload(db, project, '{"prompt": "a b"}', '{"prompt": "a b c"}', "{", check_length=check)
    assert kept.created_count == 1
    assert [error["line"] for error in kept.errors] == [2, 3]
    assert kept.errors[0]["message"] == "3 tokens, the model reads at most 2"


def test_a_file_that_cannot_be_read_keeps_nothing(db: Session, project: Project) -> None:
    with pytest.raises(UploadInvalidError):
        keep_upload(db, project, b"", "a.jsonl", all_or_nothing=False, max_chars=10)
    assert db.scalar(select(func.count()).select_from(PromptUpload)) == 0


def test_pages_go_on_where_the_last_one_ended(db: Session, project: Project) -> None:
    texts = [f"prompt {number}" for number in range(7)]
    add_prompts(db, project, asked(*texts), source="form")
    seen, cursor = [], None
    for _ in range(3):
        page = queries.page(db, project, limit=3, before=cursor)
        seen += [prompt.messages[0]["content"] for prompt in page.prompts]
        cursor = page.next_cursor
    assert seen == texts[::-1]
    assert cursor is None
    assert queries.page(db, project, limit=7).next_cursor is None


def test_prompts_are_searched_by_what_is_said_in_them(db: Session, project: Project) -> None:
    talk = [{"role": "system", "content": "Answer like a Pirate."}, {"role": "user", "content": "How is 100%_ made?"}]
    add_prompts(db, project, [*asked("Boil an egg", "100 eggs"), talk], source="form")
    add_prompts(db, project, asked("By program"), source="api")
    rows.make_prompt(db, rows.make_project(db), text="Boil an egg elsewhere")

    def found(search: str, **filters: Any) -> list[str]:
        page = queries.page(db, project, search=search, **filters)
        return sorted(prompt.messages[-1]["content"] for prompt in page.prompts)

    assert found("EGG") == ["100 eggs", "Boil an egg"]
    assert found("pirate") == ["How is 100%_ made?"]
    assert found("0%_") == ["How is 100%_ made?"]
    assert found("role") == []
    assert found("", source="api") == ["By program"]


def test_archived_prompts_leave_the_list_and_come_back(db: Session, project: Project) -> None:
    prompt = add_prompts(db, project, asked("One"), source="form").created[0]
    prompt.problem = "612 tokens, the model reads 512"
    db.flush()
    assert queries.counts(db, project) == queries.Counts(active=1, held_out=int(prompt.held_out), problem=1, archived=0)
    archive(db, project, prompt.id)
    archive(db, project, prompt.id)
    assert queries.counts(db, project) == queries.Counts(active=0, held_out=0, problem=0, archived=1)
    assert [p.id for p in queries.page(db, project, show="archived").prompts] == [prompt.id]
    unarchive(db, project, prompt.id)
    assert prompt.problem is None
    assert [p.id for p in queries.page(db, project).prompts] == [prompt.id]
    with pytest.raises(NotFoundError):
        archive(db, rows.make_project(db), prompt.id)
