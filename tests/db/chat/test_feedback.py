"""Feedback of API clients: preferences of their own, thumbs, and what becomes of both."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select, update

from app.comparisons.queries import answers, progress, ready_count, votes_since_last_round
from app.comparisons.service import create_comparison, lease_next, record_vote
from app.db.session import transaction
from app.db.tables import (
    ApiToken,
    Assignment,
    Comparison,
    ComparisonSlot,
    Completion,
    CompletionLabel,
    Project,
    Prompt,
    Round,
    RoundExample,
    User,
    Version,
    Vote,
)  # fmt: skip
from app.preferences import pages
from app.preferences.collecting import collect
from app.preferences.export import export_rows
from app.preferences.groups import snapshot_lines
from app.preferences.labels import collect_labels
from app.preferences.service import freeze
from app.reviewers.service import quarantine, release
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal
from worker.trainer.data import parse_group


@dataclass
class Client:
    """A program with a key, and the answers that it was given."""

    portal: Portal
    project: Project
    user: User
    caller: Caller
    version: Version

    def chat(self, *texts: str, held_out: bool = False, prompt: Prompt | None = None) -> tuple[str, list[Completion]]:
        with transaction(self.portal.factory) as db:
            prompt = prompt or rows.make_prompt(db, self.project, held_out=held_out, source="chat")
            return rows.make_chat(db, prompt, self.user, version=self.version, texts=texts)

    def say(self, key: str | None = None, **body: Any) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        return self.caller.post("/v1/feedback", json=body, headers=headers)

    def prefer(self, chat: str, choice: str, key: str | None = None, **more: Any) -> Any:
        a, b = {"id": chat, "index": 0}, {"id": chat, "index": 1}
        return self.say(key, a=a, b=b, choice=choice, **more)

    def set(self, **columns: Any) -> None:
        with transaction(self.portal.factory) as db:
            for name, value in columns.items():
                setattr(db.get_one(Project, self.project.id), name, value)

    def all(self, table: type) -> list[Any]:
        with transaction(self.portal.factory) as db:
            return list(db.scalars(select(table).order_by(*table.__table__.primary_key.columns)))


@pytest.fixture
def client(portal: Portal) -> Iterator[Client]:
    project = portal.project("Kitchen")
    user = portal.member(project, "bot@example.org")
    with transaction(portal.factory) as db:
        version = rows.make_version(db, project, number=1)
    return Client(portal, project, user, portal.token(user, "chat"), version)  # type: ignore[return-value]


def test_a_preference_is_a_vote_of_its_own_source_outside_the_overlap(client: Client) -> None:
    with transaction(client.portal.factory) as db:
        db.execute(update(ApiToken).values(requests_per_minute=6))  # one more every ten seconds, and not every second
    chat, (first, second) = client.chat("One.", "Two.")
    refused = client.prefer(chat, "b", strength=3)
    assert (refused.status_code, refused.json()["code"]) == (400, "vote_invalid"), "the project has no such scale"
    client.set(reviewing={"scale": "strength"})
    answer = client.prefer(chat, "b", strength=3, comment="Shorter.")
    assert answer.status_code == 201
    told = answer.json()
    assert (told["kind"], told["choice"], told["revision"], told["used_for"], told["counted"]) == (
        "preference", "b", 1, "training", False)  # fmt: skip
    assert answer.headers["x-ratelimit-remaining-requests"] == "4", "the refused one counts, too"
    (vote,), (assignment,), (comparison,) = client.all(Vote), client.all(Assignment), client.all(Comparison)
    assert (vote.source, vote.choice, vote.shown_choice, vote.strength) == ("feedback", "b", "right", 3)
    assert (assignment.state, comparison.strategy, comparison.state) == ("feedback", "feedback", "complete")
    assert client.all(ComparisonSlot) == [], "nobody is asked about it"
    with client.portal.db() as db:
        project = db.get_one(Project, client.project.id)
        (learned,) = collect(db, project).preferences
        assert (learned.outcome, learned.margin, learned.split) == ("b", 1.0, "train")
        assert {learned.completion_a_id, learned.completion_b_id} == {first.id, second.id}
        assert votes_since_last_round(db, project) == 0
        assert answers(db, project_id=project.id, reviewer_id=client.user.id) == []


def test_saying_it_again_appends_and_repeating_a_key_does_not(client: Client) -> None:
    chat, _ = client.chat("One.", "Two.")
    first = client.prefer(chat, "a", "k1")
    again = client.prefer(chat, "a", "k1")
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, first.json(), "true")
    assert client.prefer(chat, "b", "k1").json()["code"] == "idempotency_key_reused"
    other, _ = client.chat("Three.", "Four.")
    assert client.prefer(other, "a", "k1").status_code == 409
    assert client.prefer(chat, "b", "k2").json()["revision"] == 2
    turned = client.say(a={"id": chat, "index": 1}, b={"id": chat, "index": 0}, choice="b")
    assert turned.json()["revision"] == 3
    assert [(vote.revision, vote.choice, vote.shown_choice) for vote in client.all(Vote)] == [
        (1, "a", "left"), (2, "b", "right"), (3, "a", "left")]  # fmt: skip


def test_answers_of_two_requests_to_one_conversation_can_be_compared(client: Client) -> None:
    with transaction(client.portal.factory) as db:
        prompt, other = (rows.make_prompt(db, client.project) for _ in range(2))
    (one, _), (two, _) = client.chat("One.", prompt=prompt), client.chat("Two.", prompt=prompt)
    assert client.say(a={"id": one}, b={"id": two}, choice="tie").status_code == 201
    elsewhere, _ = client.chat("Three.", prompt=other)
    refused = client.say(a={"id": one}, b={"id": elsewhere}, choice="a")
    assert (refused.status_code, refused.json()["code"]) == (400, "pair_invalid")
    same, _ = client.chat("One.", prompt=prompt)
    assert client.say(a={"id": one}, b={"id": same}, choice="a").json()["code"] == "pair_invalid"


def test_only_ones_own_kept_answers_can_be_spoken_of(client: Client) -> None:
    chat, _ = client.chat("One.", "Two.")
    colleague = client.portal.token(client.portal.member(client.project, "else@example.org"), "chat")
    body = {"answer": {"id": chat}, "thumb": "up"}
    assert colleague.post("/v1/feedback", json=body).json()["code"] == "answer_not_found"
    for wrong in ({"id": chat, "index": 2}, {"id": "chatcmpl-nothing"}, {"id": "chatcmpl-" + "0" * 32}):
        missing = client.say(answer=wrong, thumb="up")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "answer_not_found")
    for broken in ({"thumb": "up"}, {"answer": {"id": chat}}, {"answer": {"id": chat}, "thumb": "up", "choice": "a"},
                   {"a": {"id": chat}, "choice": "a"}):  # fmt: skip
        assert client.say(**broken).status_code == 400
    assert client.all(Vote) == client.all(CompletionLabel) == []


def test_feedback_takes_a_reviewers_place_only_if_the_project_counts_it(client: Client) -> None:
    def queue(*texts: str) -> str:
        chat, (a, b) = client.chat(*texts)
        with transaction(client.portal.factory) as db:
            project = db.get_one(Project, client.project.id)
            create_comparison(db, project=project, completion_a=a, completion_b=b, slots=1, rng=random.Random(1))
        return chat

    def ready() -> int:
        with client.portal.db() as db:
            return ready_count(db, db.get_one(Project, client.project.id))

    chat = queue("One.", "Two.")
    assert client.prefer(chat, "a").json()["counted"] is False
    assert ready() == 1, "it still waits for a reviewer"
    client.set(feedback="count")
    counting = queue("Three.", "Four.")
    assert client.prefer(counting, "a").json()["counted"] is True
    assert ready() == 1
    lone, _ = client.chat("Five.", "Six.")
    assert client.prefer(lone, "b").json()["counted"] is True
    with client.portal.db() as db:
        project = db.get_one(Project, client.project.id)
        assert votes_since_last_round(db, project) == 2
        assert len(collect(db, project).preferences) == 3
    client.set(feedback="ignore")
    ignored, _ = client.chat("Seven.", "Eight.")
    assert client.prefer(ignored, "b").json()["used_for"] == "nothing"
    with client.portal.db() as db:
        collected = collect(db, db.get_one(Project, client.project.id))
    assert (collected.preferences, collected.left_out) == ([], {"feedback": 4})


def test_a_pair_that_one_reviews_is_judged_there(client: Client) -> None:
    chat, (a, b) = client.chat("One.", "Two.")
    with transaction(client.portal.factory) as db:
        project = db.get_one(Project, client.project.id)
        create_comparison(db, project=project, completion_a=a, completion_b=b, slots=1, rng=random.Random(1))
        leased = lease_next(db, project=project, reviewer_id=client.user.id)
        assert leased is not None
    refused = client.prefer(chat, "a")
    assert (refused.status_code, refused.json()["code"]) == (409, "pair_in_review")
    with transaction(client.portal.factory) as db:
        record_vote(db, reviewer_id=client.user.id, comparison_id=leased.comparison_id, choice="a", source="web")
    assert client.prefer(chat, "b").status_code == 409
    assert [vote.source for vote in client.all(Vote)] == ["web"]


def test_thumbs_arrive_in_the_trainers_groups_and_held_out_ones_never_train(client: Client) -> None:
    chat, (good, bad) = client.chat("Good.", "Bad.")
    held, (kept_out,) = client.chat("Held out.", held_out=True)
    assert client.say(answer={"id": chat, "index": 0}, thumb="up").json()["used_for"] == "training"
    assert client.say(answer={"id": chat, "index": 1}, thumb="up").json()["revision"] == 1
    assert client.say(answer={"id": chat, "index": 1}, thumb="down").json()["revision"] == 2
    assert client.say(answer={"id": held}, thumb="down").json()["used_for"] == "evaluation"
    lone, (taken_back,) = client.chat("Taken back.")
    client.say(answer={"id": lone}, thumb="up")
    client.say(answer={"id": lone}, thumb="none")
    assert client.prefer(chat, "a").status_code == 201
    with transaction(client.portal.factory) as db:
        project = db.get_one(Project, client.project.id)
        round_ = Round(project_id=project.id, number=1, trigger="button", state="queued")
        db.add(round_)
        db.flush()
        frozen = freeze(db, round_)
        lines = list(snapshot_lines(db, round_.id))
        assert frozen.counts["labels"] == 3
        groups = [parse_group(json.loads(line)) for line in lines]
        by_split = {group.split: group for group in groups}
        train, evaluation = by_split["train"], by_split["eval"]
        assert {(train.completions[label.completion].id, label.desirable) for label in train.labels} == {
            (str(good.id), True), (str(bad.id), False)}  # fmt: skip
        assert len(train.preferences) == 1
        assert [(evaluation.completions[item.completion].id, item.desirable) for item in evaluation.labels] == [
            (str(kept_out.id), False)]  # fmt: skip
        assert str(taken_back.id) not in b"".join(lines).decode()
        exported = list(export_rows(db, project, "groups", split="train"))
        assert [len(group["labels"]) for group in exported] == [2], "held-out labels are not in what trains"
    client.say(answer={"id": chat, "index": 0}, thumb="down")
    with client.portal.db() as db:
        assert b"".join(snapshot_lines(db, round_.id)) == b"".join(lines), "a snapshot does not change"
        frozen_rows = db.scalars(select(RoundExample).where(RoundExample.kind == "label")).all()
        assert len(frozen_rows) == 3
    assert client.prefer(chat, "b").json()["code"] == "vote_frozen"
    client.set(feedback="ignore")
    with client.portal.db() as db:
        assert collect_labels(db, db.get_one(Project, client.project.id)) == []


def test_what_is_said_in_quarantine_counts_once_it_is_over(client: Client) -> None:
    with transaction(client.portal.factory) as db:
        admin = rows.make_user(db, email="ann@example.org")
        quarantine(db, db.get_one(Project, client.project.id), client.user.id, reason="Odd.", actor=admin.id)
    chat, _ = client.chat("One.", "Two.")
    for said in (client.prefer(chat, "a"), client.prefer(chat, "b"), client.say(answer={"id": chat}, thumb="up")):
        assert said.json()["used_for"] == "nothing"
    with transaction(client.portal.factory) as db:
        project = db.get_one(Project, client.project.id)
        assert [*collect(db, project).preferences, *collect_labels(db, project)] == []
        release(db, project, client.user.id, actor=admin.id)
        assert [learned.outcome for learned in collect(db, project).preferences] == ["b"]
        assert len(list(collect_labels(db, project))) == 1
    assert client.prefer(chat, "a").json()["used_for"] == "training"


def test_feedback_is_no_days_work_of_a_reviewer(client: Client) -> None:
    for _ in range(3):
        chat, _ = client.chat("One.", "Two.")
        assert client.prefer(chat, "a").status_code == 201
    with client.portal.db() as db:
        told = progress(db, project=db.get_one(Project, client.project.id), reviewer_id=client.user.id)
    assert (told.mine_today, told.mine_any) == (0, False)


def test_thumbs_and_their_comments_are_in_the_raw_export_and_on_a_page(client: Client) -> None:
    chat, (_, other) = client.chat("One.", "Two <b>bold</b>.")
    held, _ = client.chat("Three.", held_out=True)
    assert client.prefer(chat, "a", comment="Shorter.").status_code == 201
    client.say("k1", answer={"id": chat, "index": 1}, thumb="up", comment="Kind at <i>first</i>.")
    client.say(answer={"id": chat, "index": 1}, thumb="down", comment="Wrong after all.")
    client.say(answer={"id": held}, thumb="up")
    client.say(answer={"id": held}, thumb="none", comment="By mistake.")
    with transaction(client.portal.factory) as db:
        project = db.get_one(Project, client.project.id)
        exported = list(export_rows(db, project, "votes"))
        held_out = list(export_rows(db, project, "votes", split="eval"))
        project.feedback = "ignore"
        db.flush()
        assert [row["left_out"] for row in export_rows(db, project, "votes") if row["purpose"] == "thumb"][1] == (
            "feedback"
        )
        project.feedback = "train"
        assert len(collect_labels(db, project)) == 1
    assert json.loads(json.dumps(exported)) == exported
    assert {tuple(sorted(row)) for row in exported} == {tuple(sorted(exported[0]))}, "every row has every field"
    assert [(row["purpose"], row["choice"], row["comment"], row["counts"], row["left_out"]) for row in exported] == [
        ("work", "a", "Shorter.", True, None),
        ("thumb", "up", "Kind at <i>first</i>.", False, "replaced"),
        ("thumb", "down", "Wrong after all.", True, None),
        ("thumb", "up", None, False, "replaced"),
        ("thumb", "undone", "By mistake.", False, "undone"),
    ]
    assert [(row["revision"], row["latest"], row["source"]) for row in exported[1:3]] == [
        (1, False, "feedback"),
        (2, True, "feedback"),
    ]
    assert (exported[1]["idempotency_key"], exported[1]["reviewer"]) == ("k1", client.user.email)
    assert exported[1]["answers"] == [
        {"completion_id": str(other.id), "version": client.version.number, "text": "Two <b>bold</b>."}
    ]
    assert [row["choice"] for row in held_out] == ["up", "undone"]

    admin = client.portal.browser(client.portal.member(client.project, "ann@example.org", "admin"))
    here = f"/p/{client.project.slug}/preferences"
    assert f'href="{here}/thumbs"' in admin.get(here).text
    page = admin.get(f"{here}/thumbs").text
    told = ["By mistake.", "Wrong after all.", "Kind at &lt;i&gt;first&lt;/i&gt;."]
    assert [page.index(text) for text in told] == sorted(page.index(text) for text in told), "newest first"
    assert page.count("changed later") == 2
    assert "<b>" not in page
    assert client.portal.browser(client.user).get(f"{here}/thumbs").status_code == 403


def test_thumbs_are_read_a_page_at_a_time(client: Client) -> None:
    chat, _ = client.chat("One.")
    for number in range(pages.THUMBS_PER_PAGE + 1):
        client.say(answer={"id": chat}, thumb="up", comment=f"Comment {number}.")
    admin = client.portal.browser(client.portal.member(client.project, "ann@example.org", "admin"))
    here = f"/p/{client.project.slug}/preferences/thumbs"
    first = admin.get(here).text
    assert [f"Comment {number}." in first for number in (0, 1, pages.THUMBS_PER_PAGE)] == [False, True, True]
    older = re.search(rf'href="({here}\?before=[^"]+)"', first)
    assert older is not None
    rest = admin.get(older[1]).text
    assert [f"Comment {number}." in rest for number in (0, 1)] == [True, False]
