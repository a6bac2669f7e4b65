"""Flagged pairs wait for an admin; what they decide holds for the queue and for training."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.comparisons import flagging
from app.comparisons.errors import NotFlaggedError
from app.comparisons.service import create_comparison, lease_next, record_vote
from app.db.session import transaction
from app.db.tables import AuditEntry, Comparison, ComparisonSlot, Project, User
from app.preferences.service import collect
from tests.factories.rows import (
    make_comparison,
    make_completion,
    make_project,
    make_prompt,
    make_user,
    make_version,
)
from tests.fixtures.portal import Caller, Portal, marks


@dataclass
class Scene:
    """A pair of three places: one judged it, one flagged it."""

    project: Project
    comparison: Comparison
    admin: User

    def state(self, db: Session) -> tuple[str, list[str]]:
        db.expire_all()
        slots = select(ComparisonSlot.state).where(ComparisonSlot.comparison_id == self.comparison.id)
        return db.get_one(Comparison, self.comparison.id).state, list(db.scalars(slots.order_by(ComparisonSlot.slot)))


def flagged(db: Session, reason: str = "unsafe") -> Scene:
    project = make_project(db)
    comparison = make_comparison(db, project, slots=3)
    for choice in ("a", "flag"):
        reviewer = make_user(db)
        leased = lease_next(db, project=project, reviewer_id=reviewer.id)
        assert leased is not None
        record_vote(
            db,
            reviewer_id=reviewer.id,
            assignment_id=leased.assignment_id,
            choice="a" if choice == "a" else "flag",
            reason=reason if choice == "flag" else None,
            comment="Look at the second line." if choice == "flag" else None,
            source="web",
        )
    return Scene(project, comparison, make_user(db))


def test_a_flagged_pair_is_listed_with_who_says_why(db: Session) -> None:
    scene = flagged(db)
    [item] = flagging.doubtful(db, scene.project)
    assert (item.comparison_id, item.votes) == (scene.comparison.id, 1)
    assert [(flag.reason, flag.comment) for flag in item.flags] == [("unsafe", "Look at the second line.")]
    assert flagging.doubtful(db, make_project(db)) == []


def test_put_back_it_takes_votes_again_and_its_votes_train(db: Session) -> None:
    scene = flagged(db)
    assert collect(db, scene.project).preferences == []
    flagging.restore(db, scene.project, scene.comparison.id, actor=scene.admin.id)
    assert scene.state(db) == ("open", ["voted", "free", "free"])
    assert len(collect(db, scene.project).preferences) == 1
    assert lease_next(db, project=scene.project, reviewer_id=make_user(db).id) is not None
    assert flagging.doubtful(db, scene.project) == []
    with pytest.raises(NotFlaggedError):
        flagging.restore(db, scene.project, scene.comparison.id, actor=scene.admin.id)
    entry = db.scalars(select(AuditEntry).where(AuditEntry.action == "comparison.restore")).one()
    assert entry.actor_id == scene.admin.id


def test_a_flag_after_it_was_put_back_counts_anew(db: Session) -> None:
    scene = flagged(db)
    flagging.restore(db, scene.project, scene.comparison.id, actor=scene.admin.id)
    other = make_user(db)
    leased = lease_next(db, project=scene.project, reviewer_id=other.id)
    assert leased is not None
    record_vote(
        db, reviewer_id=other.id, assignment_id=leased.assignment_id, choice="flag", reason="broken", source="web"
    )
    assert scene.state(db)[0] == "flagged"
    assert collect(db, scene.project).preferences == []


def test_taken_out_for_good_nobody_gets_it_and_its_votes_stay_out(db: Session) -> None:
    scene = flagged(db)
    flagging.withdraw(db, scene.project, scene.comparison.id, actor=scene.admin.id)
    assert scene.state(db) == ("withdrawn", ["voted", "closed", "closed"])
    assert lease_next(db, project=scene.project, reviewer_id=make_user(db).id) is None
    assert collect(db, scene.project).preferences == []
    with pytest.raises(NotFlaggedError):
        flagging.restore(db, scene.project, scene.comparison.id, actor=scene.admin.id)


def test_another_projects_admin_decides_nothing(db: Session) -> None:
    scene = flagged(db)
    for decide in (flagging.restore, flagging.withdraw, flagging.clear_tells):
        with pytest.raises(NotFlaggedError):
            decide(db, make_project(db), scene.comparison.id, actor=scene.admin.id)
    assert scene.state(db)[0] == "flagged"


def test_an_answer_that_names_its_model_is_listed_until_an_admin_has_looked(db: Session) -> None:
    from random import Random

    project = make_project(db)
    prompt, version, admin = make_prompt(db, project), make_version(db, project), make_user(db)
    texts = ("Basil likes light.", "As version 3, I say that basil likes light.")
    a, b = (make_completion(db, prompt, version=version, text=text) for text in texts)
    made = create_comparison(db, project=project, completion_a=a, completion_b=b, slots=1, rng=Random(1))
    [item] = flagging.doubtful(db, project, telling=True)
    assert item.comparison_id == made.id
    assert "As version 3, I" in (item.tells or "")
    assert lease_next(db, project=project, reviewer_id=make_user(db).id) is not None, "it stays in the queue"
    flagging.clear_tells(db, project, made.id, actor=admin.id)
    assert flagging.doubtful(db, project, telling=True) == []


@pytest.fixture
def ann(portal: Portal) -> Caller:
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user)
    return portal.browser(user)


def stored(portal: Portal) -> dict[str, object]:
    with portal.db() as db:
        return db.scalars(select(Project.reviewing).where(Project.slug == "tone")).one()


FORM: dict[str, str] = {
    "mode": "pair",
    "answers": "4",
    "scale": "strength",
    "label-0": "Helpful",
    "scale-0": "preference",
    "label-1": "",
    "label-2": "Hält sich an Fakten",
    "scale-2": "likert",
    "criteria_required": "1",
    "comment": "required",
    "comment_min_chars": "12",
    "tags": "Kinder\r\n\r\nMore exact ",
    "correction": "1",
    "skip_reason": "required",
}


def test_an_admin_decides_on_the_page(portal: Portal, ann: Caller) -> None:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project).where(Project.slug == "tone")).one()
        comparison = make_comparison(db, project, texts=("<script>alert(1)</script> one", "two"))
        reviewer = make_user(db, name="Bo")
        leased = lease_next(db, project=project, reviewer_id=reviewer.id)
        assert leased is not None
        record_vote(
            db,
            reviewer_id=reviewer.id,
            assignment_id=leased.assignment_id,
            choice="flag",
            reason="unsafe",
            source="web",
        )
    page = ann.get("/p/tone/flagged").text
    assert "Unsafe or harmful" in page
    assert "Bo" in page
    assert "<script>alert" not in page
    assert ann.post(f"/p/tone/flagged/{comparison.id}/restore").headers["location"] == "/p/tone/flagged"
    assert ann.post(f"/p/tone/flagged/{comparison.id}/restore").status_code == 409
    assert "Nothing is flagged" in ann.get("/p/tone/flagged").text


def test_what_reviewers_are_asked_is_set_on_a_page_of_its_own(portal: Portal, ann: Caller) -> None:
    assert ann.get("/p/tone/settings/reviewing").status_code == 200
    assert ann.post("/p/tone/settings/reviewing", FORM).status_code == 303
    assert stored(portal) == {
        "mode": "pair",
        "answers": 4,
        "scale": "strength",
        "criteria": [
            {"key": "helpful", "label": "Helpful", "scale": "preference"},
            {"key": "halt_sich_an_fakten", "label": "Hält sich an Fakten", "scale": "likert"},
        ],
        "criteria_required": True,
        "comment": "required",
        "comment_min_chars": 12,
        "tags": ["Kinder", "More exact"],
        "correction": True,
        "skip_reason": "required",
    }
    page = ann.get("/p/tone/settings/reviewing").text
    assert 'value="Hält sich an Fakten"' in page
    assert "Kinder\nMore exact" in page
    kept = FORM | {"key-0": "helpful", "label-0": "Helps", "key-2": "halt_sich_an_fakten"}
    assert ann.post("/p/tone/settings/reviewing", kept).status_code == 303
    assert stored(portal)["criteria"][0] == {"key": "helpful", "label": "Helps", "scale": "preference"}  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answers": "nine"}, "must be a whole number"),
        ({"answers": "9"}, "must be at most 8"),
        ({"mode": "ranking"}, "criteria compare two answers"),
        ({"comment": "off"}, "comments are off"),
        ({"tags": "Kind\nKind"}, "Kind is there twice"),
        ({"label-1": "helpful"}, "could not tell these criteria apart: Helpful, helpful"),
        ({"scale": "stars"}, "must be one of"),
    ],
)
def test_settings_that_cannot_be_used_come_back_with_what_is_wrong(
    portal: Portal, ann: Caller, change: dict[str, str], told: str
) -> None:
    before = stored(portal)
    answer = ann.post("/p/tone/settings/reviewing", FORM | change)
    assert answer.status_code == 422
    assert told in answer.text
    assert stored(portal) == before


def test_two_forms_at_once_keep_what_each_changed_and_ask_where_both_did(portal: Portal, ann: Caller) -> None:
    ann.post("/p/tone/settings/reviewing", FORM)
    shown = marks(ann.get("/p/tone/settings/reviewing").text)
    same = FORM | {"key-0": "helpful", "key-2": "halt_sich_an_fakten", "tags": "Kinder\nMore exact"}
    ann.post("/p/tone/settings/reviewing", same | {"tags": "Shorter", "shown": shown})
    ann.post("/p/tone/settings/reviewing", same | {"answers": "5", "shown": shown})
    both = stored(portal)
    assert (both["tags"], both["answers"]) == (["Shorter"], 5)
    late = same | {"answers": "6", "label-0": "Helps a lot", "shown": shown}
    answer = ann.post("/p/tone/settings/reviewing", late)
    assert answer.status_code == 409
    assert "Somebody else has changed the same settings" in answer.text
    assert all(text in answer.text for text in ('value="6"', 'dir="auto">5<', 'value="Helps a lot"', "Shorter"))
    assert stored(portal) == both
    again = late | {"tags": "Shorter", "shown": marks(answer.text)}
    assert ann.post("/p/tone/settings/reviewing", again).status_code == 303
    assert stored(portal)["answers"] == 6


def test_saving_the_other_settings_leaves_these_alone(
    portal: Portal, ann: Caller, settings_form: Callable[[], dict[str, str]]
) -> None:
    ann.post("/p/tone/settings/reviewing", FORM)
    before = stored(portal)
    assert ann.post("/p/tone/settings", settings_form()).status_code == 303
    assert stored(portal) == before


@pytest.fixture
def settings_form() -> Callable[[], dict[str, str]]:
    from app.projects import forms

    return lambda: forms.blank().values | {"name": "Tone", "base_model": "owner/model"}
