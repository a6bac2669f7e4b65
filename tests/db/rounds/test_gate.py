"""The gate: figures against bounds, and what becomes of a version that passes or does not."""

from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import RoundEvent, Version
from app.rounds import service
from app.rounds.gate import judge
from app.settings import Settings
from app.versions.manifest import VersionInfo
from tests.factories.loops import claim, make_loop, move_on
from tests.factories.rows import make_version

GOOD = {"eval": {"end": {"accuracy": 0.6, "kl": 3.0, "pairs": 10}}, "displacement_alarm": None}


def metrics(**end: object) -> dict[str, object]:
    return {"eval": {"end": GOOD["eval"]["end"] | end}, "displacement_alarm": None}  # type: ignore[index]


def test_good_figures_pass_and_are_kept_with_their_bounds() -> None:
    verdict = judge(GOOD)
    assert verdict.passed
    assert (verdict.accuracy, verdict.min_accuracy, verdict.kl, verdict.held_out_pairs) == (0.6, 0.5, 3.0, 10)
    assert verdict.to_dict()["reasons"] == []


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (metrics(accuracy=0.49), "49% of 10 held-out preferences, 50%"),
        (metrics(kl=51.0), "51.0 nats"),
        (metrics(kl=None), "could not be measured"),
        (GOOD | {"displacement_alarm": "likelihood displacement: 2 nats"}, "likelihood displacement"),
        ({"eval": None}, "no votes on held-out prompts"),
        ({}, "no votes on held-out prompts"),
        (metrics(accuracy=float("nan")), "no votes"),
    ],
)
def test_whatever_is_out_of_bounds_or_was_not_measured_does_not_pass(figures: dict[str, object], said: str) -> None:
    verdict = judge(figures)
    assert not verdict.passed
    assert said in "; ".join(verdict.reasons)


def finish(
    db: Session, promotion: str, figures: dict[str, object], *, overtaken: bool = False, comparisons: int = 0
) -> Version:
    """A round of a project with that rule, up to its registered version."""
    project, _ = make_loop(db, promotion=promotion, gate={"comparisons": comparisons})
    settings = Settings(data=Path("unused"))
    round_ = service.request_round(db, project, trigger="button")
    claimed = claim(db, settings)
    move_on(db, round_.id, claimed.token, "preparing", "training", "publishing")
    if overtaken:
        make_version(db, project, number=2)
    info = VersionInfo(kind="full", context_length=64, metrics=figures)
    return service.register_version(db, round_, claimed.token, version_id=claimed.token, digest="d" * 64, info=info)


def notes(db: Session) -> list[str]:
    return list(db.scalars(select(RoundEvent.data["text"].astext).where(RoundEvent.kind == "note")))


def test_by_hand_a_version_stays_a_candidate(db: Session) -> None:
    version = finish(db, "manual", GOOD)
    assert version.state == "candidate"
    assert "gate" not in version.metrics


def test_after_round_promotes_whatever_the_figures_say(db: Session) -> None:
    version = finish(db, "after_round", {})
    assert version.state == "current"
    assert version.metrics["gate"]["passed"] is False


def test_without_blind_comparisons_the_gate_promotes_what_passes(db: Session) -> None:
    version = finish(db, "gate", GOOD)
    assert (version.state, version.metrics["gate"]["passed"]) == ("current", True)


def test_the_gate_keeps_a_candidate_and_says_why(db: Session) -> None:
    version = finish(db, "gate", metrics(accuracy=0.2))
    assert version.state == "candidate"
    assert "20% of 10" in version.metrics["gate"]["reasons"][0]
    (note,) = notes(db)
    assert "did not promote version 2" in note


def test_nothing_is_promoted_over_a_version_that_somebody_chose_meanwhile(db: Session) -> None:
    version = finish(db, "after_round", GOOD, overtaken=True)
    assert (version.number, version.state) == (3, "candidate")
    assert "version 2 became the current one" in notes(db)[0]
