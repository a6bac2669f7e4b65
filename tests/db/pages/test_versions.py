"""Versions: their figures with uncertainty, and how far the gate is."""

from random import Random
from typing import Any

from sqlalchemy import select

from app.comparisons.service import Made, create_comparison
from app.db.session import transaction
from app.db.tables import Project, Version
from app.projects.refilling import GateSettings
from app.rounds import blind
from app.rounds.gate import judge, judge_blind
from tests.db.pages.scene import ready
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal


def test_versions_show_figures_with_their_uncertainty(portal: Portal, ann: Caller) -> None:
    ready(portal)
    metrics: dict[str, Any] = {
        "train": {"preferences": 120},
        "lengths": {"chosen_tokens": 50.0, "rejected_tokens": 61.5, "length_delta": -11.5},
        "eval": {"end": {"accuracy": 0.75, "pairs": 60, "prompts": 20, "margin": 1.25, "kl": 0.4}},
        "displacement_alarm": "likelihood displacement: the chosen answers fall",
        "over_kl_budget": "the published weights are over it",
    }
    metrics["gate"] = judge(metrics).to_dict()
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        first = db.scalars(select(Version)).one()
        rows.make_version(db, project, number=2, state="candidate", metrics=metrics, parent_id=first.id)
    page = ann.get("/p/tone/versions").text
    # Wilson, 15 of 20 prompts: middle (0.75 + z²/40)/(1 + z²/20) = 0.7097, half width 0.1785
    assert "75%" in page
    assert "53–89%, 60 preferences" in page
    assert "1.25" in page
    assert "\N{MINUS SIGN}11.5" in page
    assert "Training made the preferred answers less likely, too." in page
    assert "Likelihood displacement: the chosen answers fall." in page
    assert "The published weights are over it." in page
    assert "gate not passed" in page
    assert "It agrees with 75% of 60 held-out preferences; at least 50% are asked for." in page
    assert "It is 0.40 nats an answer from the reference; at most 50 are allowed." in page
    assert ann.post("/p/tone/versions/2/reject", {"reason": "Too curt"}).status_code == 303
    assert "rejected" in ann.get("/p/tone/versions").text
    assert ann.post("/p/tone/versions/9/reject").status_code == 404
    assert ann.post("/p/tone/versions/roll-back").status_code == 409


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
