"""Rounds: the button that starts one, and the page that follows it."""

import json
import re

from sqlalchemy import select

from app.db.session import transaction
from app.db.tables import Project, Round
from app.rounds.service import request_round
from tests.db.pages.scene import ready, ready_votes
from tests.fixtures.portal import Caller, Portal


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
