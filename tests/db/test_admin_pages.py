"""What admins and reviewers find on the pages of a project, and what forms do with good and bad input."""

import io
import json
import re
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select

from app.comparisons import refill_counts
from app.comparisons.service import Made, create_comparison
from app.db.base import utcnow
from app.db.session import transaction
from app.db.tables import Membership, Project, Prompt, Round, User, Version
from app.projects import forms
from app.projects.form_sections import FIELDS
from app.projects.refilling import GateSettings
from app.rounds import blind
from app.rounds.gate import judge, judge_blind
from app.rounds.service import request_round
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal, marks


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers."""
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user, guidelines="Be *kind*.", min_round_votes=2)
    return portal.browser(user)


def stored(portal: Portal) -> Project:
    with portal.db() as db:
        return db.scalars(select(Project).where(Project.slug == "tone")).one()


def ready(portal: Portal, votes: int = 0) -> None:
    """A current version, a pair in the queue, and votes."""
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        version = rows.make_version(db, project, number=1)
        rows.make_comparison(db, project, version=version)
        for _ in range(votes):
            rows.make_vote(db, rows.make_comparison(db, project, version=version))


def test_the_first_page_leads_to_the_first_project(portal: Portal) -> None:
    admin = portal.browser(portal.user("ann@example.org", is_site_admin=True))
    assert "Create the first project" in admin.get("/").text
    reviewer = portal.browser(portal.user("bo@example.org"))
    text = reviewer.get("/").text
    assert "Ask an admin to add you" in text
    assert "/projects/new" not in text


def test_who_has_one_project_goes_straight_there(portal: Portal, ann: Caller) -> None:
    assert ann.get("/").headers["location"] == "/p/tone"
    assert "/p/tone/compare" in ann.get("/?all=1").text


def test_an_admin_is_led_from_the_first_pairs_to_the_first_votes(portal: Portal, ann: Caller) -> None:
    ready(portal)
    with transaction(portal.factory) as db:
        rows.make_prompt(db, db.scalars(select(Project)).one())
    page = ann.get("/p/tone").text
    assert "Now compare answers" in page
    assert "from 2 votes on, a round can train the next version" in page
    assert page.index("Now compare answers") < page.index('href="/p/tone/compare">Start comparing')
    assert 'href="/p/tone/compare">Compare answers' in ann.get("/p/tone/rounds").text
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        version = db.scalars(select(Version)).one()
        for _ in range(2):
            rows.make_vote(db, rows.make_comparison(db, project, version=version))
    assert "Now compare answers" not in ann.get("/p/tone").text
    assert ">Compare answers" not in ann.get("/p/tone/rounds").text


@pytest.mark.parametrize(
    ("path", "tab"), [("/checks", "/reviewers"), ("/audit", "/settings"), ("/settings/queue", "/settings")]
)
def test_pages_within_others_show_where_they_belong(portal: Portal, ann: Caller, path: str, tab: str) -> None:
    head = ann.get(f"/p/tone{path}").text.split("<main", 1)[0]
    assert re.findall(r'<a href="([^"]+)" aria-current="page">', head) == [f"/p/tone{tab}"]


def filled(portal: Portal, **changes: str) -> dict[str, str]:
    return forms.blank().values | {"name": "New", "base_model": "owner/model"} | changes


def test_a_project_is_made_by_the_form(portal: Portal) -> None:
    admin = portal.browser(portal.user("ann@example.org", is_site_admin=True))
    page = admin.get("/projects/new").text
    names = set(re.findall(r'<(?:input|select|textarea) id="([^"]+)" name="\1"', page))
    assert names == set(FIELDS)
    data = filled(portal, **{"training.loss": "dpop", "training.learning_rate": "2e-4", "sampling.stop": "###\n\nEnd"})
    answer = admin.post("/projects/new", data)
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/new")
    with portal.db() as db:
        project = db.scalars(select(Project)).one()
        assert (project.training["loss"], project.training["learning_rate"]) == ("dpop", 2e-4)
        assert project.sampling["stop"] == ["###", "End"]
        assert db.scalars(select(Round.kind)).all() == ["import"]
    assert "The base model is being imported" in admin.get("/p/new").text


def test_a_bad_form_comes_back_with_everything_typed_and_each_error_at_its_field(portal: Portal) -> None:
    admin = portal.browser(portal.user("ann@example.org", is_site_admin=True))
    data = filled(
        portal,
        base_model="/no/such/model",
        buffer_size="many",
        round_schedule="daily",
        **{"training.loss": "sigmoid", "training.loss_settings.dpop_lambda": "5", "sampling.temperature": "0"},
    )
    answer = admin.post("/projects/new", data)
    assert answer.status_code == 422
    errors = dict(re.findall(r'<p class="error" id="([^"]+)-error">([^<]+)</p>', answer.text))
    assert set(errors) == {
        "base_model",
        "buffer_size",
        "round_schedule",
        "training.loss_settings.dpop_lambda",
        "sampling.temperature",
    }
    assert "does not exist on the server" in errors["base_model"]
    assert "does not read it; it reads beta" in errors["training.loss_settings.dpop_lambda"]
    assert 'value="/no/such/model"' in answer.text
    assert 'value="many"' in answer.text
    with portal.db() as db:
        assert db.scalars(select(Project)).all() == []


def test_the_settings_form_saves_what_it_shows(portal: Portal, ann: Caller) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        project.training = project.training | {"weight_decay": 0.05}
    before = stored(portal)
    values = forms.of_project(before).values
    assert ann.post("/p/tone/settings", values).status_code == 303
    after = stored(portal)
    for name in ("training", "sampling", "name", "guidelines", "round_schedule", "base_model"):
        assert getattr(after, name) == getattr(before, name), name
    changed = values | {"training.method": "full", "training.lora_rank": "", "training.lora_alpha": "",
                        "training.lora_dropout": "", "round_schedule": "0 3 * * *"}  # fmt: skip
    assert ann.post("/p/tone/settings", changed).status_code == 303
    after = stored(portal)
    assert after.training["method"] == "full"
    assert after.training["weight_decay"] == 0.05
    assert after.next_round_at is not None
    refused = ann.post("/p/tone/settings", changed | {"name": ""})
    assert refused.status_code == 422
    assert stored(portal).name == "Tone"


def test_who_is_a_member_already_keeps_their_role(portal: Portal, ann: Caller) -> None:
    portal.user("bo@example.org")
    ann.post("/p/tone/members", {"email": "bo@example.org", "role": "admin"})
    again = ann.post("/p/tone/members", {"email": "bo@example.org", "role": "reviewer"})
    assert again.status_code == 409
    assert "This project has bo@example.org already, as an admin." in again.text
    with portal.db() as db:
        assert set(db.scalars(select(Membership.role))) == {"admin"}


def test_who_makes_themselves_a_reviewer_lands_where_they_may_be(portal: Portal, ann: Caller) -> None:
    bo = portal.user("bo@example.org")
    ann.post("/p/tone/members", {"email": "bo@example.org", "role": "admin"})
    browser = portal.browser(bo)
    assert "Only another admin can make you an admin again." in browser.get("/p/tone/members").text
    answer = browser.post(f"/p/tone/members/{bo.id}/role", {"role": "reviewer"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/p/tone")
    assert "You are a reviewer of this project now." in browser.get("/p/tone").text
    ann.post(f"/p/tone/members/{bo.id}/role", {"role": "admin"})
    assert browser.post(f"/p/tone/members/{bo.id}/remove").headers["location"] == "/"


def test_a_second_form_writes_only_what_was_changed_in_it(portal: Portal, ann: Caller) -> None:
    shown = marks(ann.get("/p/tone/settings").text)
    values = forms.of_project(stored(portal)).values | {"shown": shown}
    assert ann.post("/p/tone/settings", values | {"guidelines": "Be brief."}).status_code == 303
    assert ann.post("/p/tone/settings", values | {"buffer_size": "30"}).status_code == 303
    now = stored(portal)
    assert (now.guidelines, now.buffer_size) == ("Be brief.", 30)


def test_who_changes_what_somebody_else_has_changed_meanwhile_sees_both(portal: Portal, ann: Caller) -> None:
    values = forms.of_project(stored(portal)).values | {"shown": marks(ann.get("/p/tone/settings").text)}
    ann.post("/p/tone/settings", values | {"guidelines": "Be brief.", "buffer_size": "30"})
    mine = values | {"guidelines": "Be witty.", "promotion": "gate"}
    answer = ann.post("/p/tone/settings", mine)
    assert answer.status_code == 409
    assert "Somebody else has changed the same settings meanwhile." in answer.text
    assert "Be witty.</textarea>" in answer.text
    assert "Be brief.</p>" in answer.text
    assert 'name="buffer_size" type="text" value="30"' in answer.text
    assert 'value="gate" selected' in answer.text
    assert (stored(portal).guidelines, stored(portal).promotion) == ("Be brief.", "manual")
    assert ann.post("/p/tone/settings", mine | {"shown": marks(answer.text), "buffer_size": "30"}).status_code == 303
    now = stored(portal)
    assert (now.guidelines, now.promotion, now.buffer_size) == ("Be witty.", "gate", 30)


def test_what_the_browser_hides_is_not_taken_for_a_change(portal: Portal, ann: Caller) -> None:
    """Of a method without LoRA the form sends no rank; somebody else has changed both meanwhile."""
    full = {"training.method": "full"} | dict.fromkeys(
        (f"training.lora_{name}" for name in ("rank", "alpha", "dropout", "dora", "rslora")), ""
    )
    ann.post("/p/tone/settings", forms.of_project(stored(portal)).values | full)
    shown = marks(ann.get("/p/tone/settings").text)
    values = forms.of_project(stored(portal)).values | {"shown": shown}
    ann.post("/p/tone/settings", values | {"training.method": "lora", "training.lora_rank": "32"})
    sent = {name: value for name, value in values.items() if not name.startswith("training.lora_")}
    assert ann.post("/p/tone/settings", sent | {"guidelines": "Be brief."}).status_code == 303
    now = stored(portal)
    assert (now.guidelines, now.training["method"], now.training["lora_rank"]) == ("Be brief.", "lora", 32)


@pytest.mark.parametrize(
    ("typed", "kept"), [("0,85", 0.85), ("0.85", 0.85), ("1", 1.0), ("1,5", None), ("1.000", None), ("1,000.5", None)]
)
def test_numbers_are_read_and_shown_as_the_language_writes_them(
    portal: Portal, ann: Caller, typed: str, kept: float | None
) -> None:
    german = {"Accept-Language": "de"}
    before = ann.get("/p/tone/settings", headers=german).text
    assert 'name="refilling.similarity" type="text" value="0,9"' in before
    values = forms.of_project(stored(portal)).values | {"refilling.similarity": typed, "shown": marks(before)}
    answer = ann.post("/p/tone/settings", values, headers=german)
    if kept is None:
        assert answer.status_code == 422
        assert f'name="refilling.similarity" type="text" value="{typed}"' in answer.text
    else:
        assert answer.status_code == 303
        assert stored(portal).refilling["similarity"] == kept


def test_the_base_model_is_fixed_once_there_is_a_version(portal: Portal, ann: Caller) -> None:
    ready(portal)
    assert "Version 1 was made of it" in ann.get("/p/tone/settings").text
    values = forms.of_project(stored(portal)).values | {"base_model": "owner/other"}
    answer = ann.post("/p/tone/settings", values)
    assert answer.status_code == 422
    assert "Make a new project for another base model" in answer.text
    assert stored(portal).base_model == "owner/model"


def test_members_are_added_by_address(portal: Portal, ann: Caller) -> None:
    portal.user("bo@example.org")
    assert ann.post("/p/tone/members", {"email": " Bo@Example.org", "role": "reviewer"}).status_code == 303
    assert "bo@example.org" in ann.get("/p/tone/members").text
    unknown = ann.post("/p/tone/members", {"email": "nobody@example.org", "role": "reviewer"})
    assert unknown.status_code == 422
    assert "No account has the address" in unknown.text
    last = ann.post(f"/p/tone/members/{ann.user_id}/remove")
    assert last.status_code == 409
    with portal.db() as db:
        bo = db.scalars(select(Membership.user_id).where(Membership.role == "reviewer")).one()
    assert ann.post(f"/p/tone/members/{bo}/role", {"role": "admin"}).status_code == 303
    assert ann.post(f"/p/tone/members/{ann.user_id}/remove").status_code == 303
    with portal.db() as db:
        assert db.scalars(select(Membership.user_id)).all() == [bo]


def upload(caller: Caller, name: str, data: bytes, keep: str = "good") -> Any:
    return caller.post("/p/tone/prompts/upload", {"keep": keep}, files={"file": (name, io.BytesIO(data))})


GOOD_AND_BAD = b'{"prompt": "One"}\nnot json\n{"prompt": "Two"}\n{"prompt": ""}\n'


def count(portal: Portal) -> int:
    with portal.db() as db:
        return db.scalar(select(func.count()).select_from(Prompt)) or 0


def test_an_upload_keeps_the_good_rows_and_shows_the_bad_ones(portal: Portal, ann: Caller) -> None:
    answer = upload(ann, "mine.jsonl", GOOD_AND_BAD)
    assert answer.status_code == 303
    page = ann.get(answer.headers["location"])
    assert "2 of 4 rows of mine.jsonl could not be kept" in page.text
    assert re.findall(r'<th scope="row" class="num">(\d+)</th>', page.text) == ["2", "4"]
    assert "this is not JSON" in page.text
    assert count(portal) == 2
    table = ann.get(f"{answer.headers['location']}/errors.csv")
    assert table.headers["content-disposition"] == 'attachment; filename="bad-rows.csv"'
    assert [line.split(",")[0] for line in table.text.splitlines()] == ["line", "2", "4"]


def test_all_or_nothing_keeps_nothing_and_says_so(portal: Portal, ann: Caller) -> None:
    answer = upload(ann, "mine.jsonl", GOOD_AND_BAD, keep="all")
    page = ann.get(answer.headers["location"]).text
    assert "Nothing of mine.jsonl was kept" in page
    assert "Good rows not kept" in page
    assert count(portal) == 0


@pytest.mark.parametrize(
    ("name", "data", "status", "says"),
    [
        ("mine.xlsx", b"PK", 422, "neither .jsonl nor .csv"),
        ("mine.jsonl", b"", 422, "has no rows"),
        ("mine.csv", b"question\na\n", 422, "must name one column"),
        ("mine.csv", "prompt\na\n".encode("utf-16"), 422, "UTF-16"),
        ("mine.jsonl", b'{"prompt": "x"}\n' * 50_001, 413, "more than 50,000 rows"),
        ("mine.jsonl", b"x" * (2**20 + 1), 413, "1.0 MiB"),
        ("", b"", 422, "Choose a file first"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_plain_words(
    portal: Portal, ann: Caller, name: str, data: bytes, status: int, says: str
) -> None:
    answer = upload(ann, name, data)
    assert answer.status_code == status
    assert says in answer.text.replace("&#39;", "'")
    assert count(portal) == 0


def test_a_file_of_bad_rows_alone_says_that_nothing_of_it_is_kept(portal: Portal, ann: Caller) -> None:
    answer = upload(ann, "mine.csv", b"prompt\nHow are you, Head?\n")
    text = ann.get(answer.headers["location"]).text
    assert "No row could be kept." in text
    assert "The good rows are in" not in text
    assert "put a text with the separator in it in quotes" in text


def test_one_prompt_is_added_archived_and_used_again(portal: Portal, ann: Caller) -> None:
    assert ann.post("/p/tone/prompts/new", {"prompt": "How?", "system": "Be brief."}).status_code == 303
    empty = ann.post("/p/tone/prompts/new", {"prompt": " ", "system": "kept"})
    assert (empty.status_code, "Write a prompt first." in empty.text, "kept" in empty.text) == (422, True, True)
    with portal.db() as db:
        prompt = db.scalars(select(Prompt)).one()
    assert prompt.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How?"}]
    assert "How?" in ann.get("/p/tone/prompts").text
    ann.post(f"/p/tone/prompts/{prompt.id}/archive")
    assert "How?" not in ann.get("/p/tone/prompts").text
    assert "How?" in ann.get("/p/tone/prompts?show=archived").text
    ann.post(f"/p/tone/prompts/{prompt.id}/unarchive")
    table = ann.get("/p/tone/prompts?search=how", headers={"HX-Request": "true"}).text
    assert "How?" in table
    assert "<html" not in table


def test_prompts_are_text_and_never_markup(portal: Portal, ann: Caller) -> None:
    ann.post("/p/tone/prompts/new", {"prompt": "<script>alert(1)</script><b hx-get=/x>"})
    text = ann.get("/p/tone/prompts").text
    assert "<script>alert" not in text
    assert "&lt;b hx-get" in text


def test_a_round_starts_from_its_button_only_when_it_can(portal: Portal, ann: Caller) -> None:
    assert "There is no model to start from yet." in ann.get("/p/tone/rounds").text
    ready(portal, votes=1)
    page = ann.get("/p/tone/rounds").text
    assert "1 more new vote is needed: 1 of 2." in page
    assert re.search(r"<button[^>]* disabled[^>]*>Start a round", page)
    assert ann.post("/p/tone/rounds").status_code == 409
    ready_votes(portal, 1)
    assert not re.search(r"<button[^>]* disabled", ann.get("/p/tone/rounds").text)
    started = ann.post("/p/tone/rounds")
    assert (started.status_code, started.headers["location"]) == (303, "/p/tone/rounds/1")
    assert "Round 1 is still queued." in ann.get("/p/tone/rounds").text


def ready_votes(portal: Portal, votes: int) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        for _ in range(votes):
            rows.make_vote(db, rows.make_comparison(db, project))


def test_a_rounds_page_follows_it_until_it_ends(portal: Portal, ann: Caller) -> None:
    ready(portal, votes=2)
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        round_ = request_round(db, project, trigger="button", requested_by=ann.user_id)
        round_.state, round_.progress = "training", {"kind": "train", "step": 2, "progress": 0.25}
    job = portal.settings.jobs_dir / str(round_.id)
    job.mkdir(parents=True)
    lines = [
        {"kind": "train", "step": n, "steps": 8, "loss": 0.7 - n / 50, "accuracy": 0.5, "margin": 0.1 * n,
         "chosen_log_ratio": 0.01 * n, "rejected_log_ratio": -0.1 * n}
        for n in (1, 2)
    ]  # fmt: skip
    lines.append({"kind": "over_budget", "step": 2, "message": "the published weights are over it"})
    text = "\n".join(map(json.dumps, lines)) + '\n{"kind": "tra'  # the trainer is writing
    (job / "metrics.jsonl").write_text(text)
    htmx = {"HX-Request": "true"}
    page = ann.get("/p/tone/rounds/1").text
    assert 'hx-trigger="every 2s"' in page
    assert "Step 2 of 8" in page
    assert "The published weights are over it." in page
    assert "25%" in page
    assert 'aria-label="Loss. training: from 0.68 at step 1 to 0.66 at step 2."' in page
    same = ann.get("/p/tone/rounds/1?seen=training", headers=htmx)
    assert same.text.lstrip().startswith('<div id="live"')
    with transaction(portal.factory) as db:
        row = db.scalars(select(Round)).one()
        row.state, row.error, row.log_tail = "failed", "Out of memory: lower tokens_per_row.", "Killed <b>"
    changed = ann.get("/p/tone/rounds/1?seen=training", headers=htmx)
    assert (changed.status_code, changed.headers["hx-refresh"]) == (204, "true")
    ended = ann.get("/p/tone/rounds/1").text
    assert "hx-trigger" not in ended
    assert "Out of memory: lower tokens_per_row." in ended
    assert "Killed &lt;b&gt;" in ended
    assert ann.post("/p/tone/rounds/1/retry").status_code == 303
    assert ann.post("/p/tone/rounds/1/cancel").status_code == 303
    assert "cancelled" in ann.get("/p/tone/rounds/1").text


def test_a_round_that_raised_the_held_out_loss_warns_once_it_has_ended(portal: Portal, ann: Caller) -> None:
    ready(portal, votes=2)
    with transaction(portal.factory) as db:
        round_ = request_round(db, db.scalars(select(Project)).one(), trigger="button")
        round_.state = "training"
    job = portal.settings.jobs_dir / str(round_.id)
    job.mkdir(parents=True)
    lines = [{"kind": "eval", "step": step, "loss": loss} for step, loss in ((0, 0.6931), (2, 0.6943), (4, 0.6951))]
    lines.append({"kind": "best", "step": 2, "loss": 0.6943})
    (job / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = "Lowest held-out loss after training began: 0.6943, after step 2."
    warning = "Training made the held-out loss worse."
    page = ann.get("/p/tone/rounds/1").text
    assert told in page
    assert warning not in page, "the next evaluation may be better"
    with transaction(portal.factory) as db:
        db.get_one(Round, round_.id).state = "done"
    page = ann.get("/p/tone/rounds/1").text
    assert f"Held-out loss before training: 0.6931. {told}" in page
    assert warning in page


def test_a_failed_import_is_on_the_first_page_with_its_reason_and_a_button(portal: Portal, ann: Caller) -> None:
    assert "has not been imported" in ann.get("/p/tone").text
    assert ann.post("/p/tone/import").status_code == 303
    with transaction(portal.factory) as db:
        row = db.scalars(select(Round)).one()
        row.state, row.error = "failed", "owner/model was not found on the hub."
    page = ann.get("/p/tone").text
    assert "owner/model was not found on the hub." in page
    assert "Try again" in page
    assert ann.post("/p/tone/import").status_code == 303
    with portal.db() as db:
        assert [(row.number, row.state) for row in db.scalars(select(Round))] == [(0, "queued")]


def test_a_reviewer_finds_the_way_to_the_pairs_and_no_admin_matters(portal: Portal, ann: Caller) -> None:
    ready(portal)
    bo = portal.browser(portal.member(stored(portal), "bo@example.org"))
    page = bo.get("/p/tone").text
    assert "1 pair of answers waits for you" in page
    assert "one question with two answers" in page, "what a pair is, until the first vote"
    assert "Be <em>kind</em>" in page
    assert "/export" not in page
    assert "ersion 1" not in page
    with transaction(portal.factory) as db:
        db.scalars(select(Project)).one().reviewing = {"mode": "ranking", "answers": 4}
    assert "one question with two answers" not in bo.get("/p/tone").text
    for url in ("settings", "members", "prompts", "prompts/new", "rounds", "versions", "export"):
        assert bo.get(f"/p/tone/{url}").status_code == 403, url
    stranger = portal.browser(portal.user("eve@example.org"))
    for url in ("", "/settings", "/prompts", "/rounds/1", "/versions"):
        assert stranger.get(f"/p/tone{url}").status_code == 404, url


def test_versions_show_figures_with_their_uncertainty(portal: Portal, ann: Caller) -> None:
    ready(portal)
    metrics: dict[str, Any] = {
        "train": {"preferences": 120},
        "lengths": {"chosen_tokens": 50.0, "rejected_tokens": 61.5, "length_delta": -11.5},
        "eval": {"end": {"accuracy": 0.75, "pairs": 20, "margin": 1.25, "kl": 0.4}},
        "displacement_alarm": "likelihood displacement: the chosen answers fall",
        "over_kl_budget": "the published weights are over it",
    }
    metrics["gate"] = judge(metrics).to_dict()
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        first = db.scalars(select(Version)).one()
        rows.make_version(db, project, number=2, state="candidate", metrics=metrics, parent_id=first.id)
    page = ann.get("/p/tone/versions").text
    # Wilson, 15 of 20: middle (0.75 + z²/40)/(1 + z²/20) = 0.7097, half width 0.1785
    assert "75%" in page
    assert "53–89%, 20 preferences" in page
    assert "1.25" in page
    assert "\N{MINUS SIGN}11.5" in page
    assert "Training made the preferred answers less likely, too." in page
    assert "Likelihood displacement: the chosen answers fall." in page
    assert "The published weights are over it." in page
    assert "gate not passed" in page
    assert "It agrees with 75% of 20 held-out preferences; at least 50% are asked for." in page
    assert "It is 0.40 nats an answer from the reference; at most 50 are allowed." in page
    assert ann.post("/p/tone/versions/2/reject", {"reason": "Too curt"}).status_code == 303
    assert "rejected" in ann.get("/p/tone/versions").text
    assert ann.post("/p/tone/versions/9/reject").status_code == 404
    assert ann.post("/p/tone/versions/roll-back").status_code == 409


def test_the_export_is_json_lines(portal: Portal, ann: Caller) -> None:
    ready(portal, votes=2)
    answer = ann.get("/p/tone/export?format=trl")
    assert answer.headers["content-disposition"] == 'attachment; filename="tone-trl.jsonl"'
    exported = [json.loads(line) for line in answer.text.splitlines()]
    assert len(exported) == 2
    assert set(exported[0]) == {"prompt", "chosen", "rejected", "split", "adjudicated"}
    assert ann.get("/p/tone/export?format=trl&split=train").text == answer.text
    held_out = ann.get("/p/tone/export?format=arena&split=eval")
    assert (held_out.text, "tone-arena-eval.jsonl" in held_out.headers["content-disposition"]) == ("", True)
    assert ann.get("/p/tone/export?split=nope").status_code == 422
    assert ann.get("/p/tone/export?format=nope").status_code == 422
    assert '<option value="votes">' in ann.get("/p/tone").text
    raw = ann.get("/p/tone/export?format=votes")
    assert raw.headers["content-disposition"] == 'attachment; filename="tone-votes.jsonl"'
    assert [json.loads(line)["counts"] for line in raw.text.splitlines()] == [True, True]
    with portal.db() as db:
        program = portal.token(db.get_one(User, ann.user_id), "export:read")
    assert program.get("/api/v1/projects/tone/export", params={"format": "trl"}).text == answer.text
    assert program.get("/api/v1/projects/tone/export", params={"split": "eval"}).text == ""


def test_state_changes_need_the_forms_token(portal: Portal, ann: Caller, tmp_path: Path) -> None:
    for url in ("/projects/new", "/p/tone/settings", "/p/tone/rounds", "/p/tone/prompts/new", "/p/tone/members"):
        assert ann.client.post(url, data={"csrf_token": "wrong"}, follow_redirects=False).status_code == 403, url


def test_the_overview_shows_how_pairs_are_made_and_what_was_refused(portal: Portal, ann: Caller) -> None:
    ready(portal)
    with transaction(portal.factory) as db:
        project, version = db.scalars(select(Project)).one(), db.scalars(select(Version)).one()
        counts = {"sampled": 1200, "formed": 500, "seconds": 250, "looping": 5, "near_identical": 7, "no_pair": 3}
        refill_counts.add(db, project_id=project.id, version_id=version.id, counts=counts)
        refill_counts.add(db, project_id=project.id, version_id=version.id, counts={"looping": 1})
        week_ago = utcnow().date() - timedelta(days=7)
        refill_counts.add(db, project_id=project.id, version_id=version.id, counts={"empty": 9}, day=week_ago)
        project.refill_last_error, project.refill_last_error_at = "The engine said nothing.", utcnow()
    page = ann.get("/p/tone").text
    assert "of 24 kept ready" in page
    assert "0.5 s" in page
    assert "1.1%" in page, "13 of 1,200"
    assert "13 of 1,200 answers" in page
    assert "<dt>refused: going round in circles</dt><dd>6</dd>" in page
    assert "dropped: nearly the same as another answer" in page
    assert "refused: empty" not in page, "a week ago"
    assert "is over: The engine said nothing." in page
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        project.refill_problem, project.refill_failures = "The engine is down.", 3
        project.refill_due_at = utcnow() + timedelta(seconds=30)
    page = ann.get("/p/tone").text
    assert "New pairs cannot be made at present." in page
    assert "waiting to try again" in page
    assert "is over" not in page


def test_a_version_at_the_gate_shows_how_far_people_are(portal: Portal, ann: Caller) -> None:
    ready(portal)
    with transaction(portal.factory) as db:
        project, first = db.scalars(select(Project)).one(), db.scalars(select(Version)).one()
        project.gate = {"comparisons": 10}
        gate = judge({"eval": {"end": {"accuracy": 0.75, "pairs": 20, "kl": 0.4}}}).to_dict()
        second = rows.make_version(
            db, project, number=2, state="candidate", metrics={"gate": gate}, parent_id=first.id, gate_state="open"
        )
        prompt = rows.make_prompt(db, project)
        a, b = (rows.make_completion(db, prompt, version=version) for version in (first, second))
        pair = create_comparison(
            db, project=project, completion_a=a, completion_b=b, slots=1, rng=Random(0), made=Made("gate")
        )
        rows.make_vote(db, pair, choice="b")
        candidate = second.id
    page = ann.get("/p/tone/versions").text
    assert "people are comparing" in page
    assert "1 of 10" in page
    assert "So far it won 100% (95% interval: 21% to 100%)" in page
    with transaction(portal.factory) as db:
        version, project = db.get_one(Version, candidate), db.scalars(select(Project)).one()
        bounds = GateSettings(comparisons=1)
        verdict = judge_blind(judge(version.metrics | {"eval": {}}, bounds), blind.result(db, project, version), bounds)
        version.gate_state, version.metrics = "failed", {"gate": verdict.to_dict()}
    page = ann.get("/p/tone/versions").text
    assert "gate not passed" in page
    assert "It won 100% of 1 blind comparisons with version 1; the 95% interval, 21% to 100%" in page


def test_how_pairs_are_chosen_is_set_on_the_page(portal: Portal, ann: Caller) -> None:
    page = ann.get("/p/tone/settings").text
    shown = dict(re.findall(r'name="(refilling\.[a-z_]+|gate\.[a-z_]+)" type="text" value="([^"]*)"', page))
    assert shown["refilling.similarity"] == "0.9"
    assert shown["gate.comparisons"] == "40"
    form = {name: value for name, value in forms.of_project(stored(portal)).values.items() if value}
    chosen = {"refilling.strategy": "information", "refilling.exploration": "0.3", "gate.min_win_rate": "0.5"}
    assert ann.post("/p/tone/settings", form | chosen).status_code == 303
    project = stored(portal)
    assert (project.refilling["strategy"], project.refilling["exploration"]) == ("information", 0.3)
    assert project.refilling["pool_factor"] == 3
    assert project.gate["min_win_rate"] == 0.5
    refused = ann.post("/p/tone/settings", form | chosen | {"refilling.strategy": "random"})
    assert refused.status_code == 422
    assert "strategy &#39;random&#39; does not read it" in refused.text
