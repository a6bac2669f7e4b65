"""Checks, skill, age, rankings and edits, from rows to the trainer's groups."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.tables import (
    Assignment,
    Comparison,
    ComparisonItem,
    Completion,
    Project,
    Round,
    RoundExample,
    User,
    Version,
)
from app.preferences import corrections
from app.preferences.collecting import collect
from app.preferences.export import export_rows
from app.preferences.groups import groups, snapshot_lines
from app.preferences.service import freeze
from tests.factories.rows import (
    make_comparison,
    make_control,
    make_project,
    make_ranking,
    make_user,
    make_version,
    make_vote,
)
from worker.trainer.data import parse_group


@pytest.fixture
def project(db: Session) -> Project:
    return make_project(db, slug="tone")


@pytest.fixture
def version(db: Session, project: Project) -> Version:
    return make_version(db, project, number=1)


def make_check(db: Session, project: Project, reviewer: User) -> Comparison:
    """A gold pair in the reviewer's hands, with tokens, so that nothing but its purpose keeps it out."""
    control = make_control(db, project)
    for id_ in (control.completion_a_id, control.completion_b_id):
        completion = db.get_one(Completion, id_)
        completion.ids, completion.prompt_ids = [5, id_.int % 1000 + 6], [1]
    check = Comparison(
        project_id=project.id,
        prompt_id=control.prompt_id,
        completion_a_id=control.completion_a_id,
        completion_b_id=control.completion_b_id,
        first_left="a",
        purpose="gold",
        control_id=control.id,
        for_reviewer_id=reviewer.id,
    )
    db.add(check)
    db.flush()
    from app.db.tables import ComparisonSlot

    db.add(ComparisonSlot(comparison_id=check.id, slot=0, project_id=project.id, queue_key=float("inf")))
    db.flush()
    return check


def test_checks_never_train_and_are_fixed_with_the_votes(db: Session, project: Project, version: Version) -> None:
    reviewer = make_user(db)
    work = make_vote(db, make_comparison(db, project, version=version), reviewer=reviewer)
    check = make_vote(db, make_check(db, project, reviewer), reviewer=reviewer)
    collected = collect(db, project)
    assert [item.vote_id for item in collected.preferences] == [work.id]
    assert collected.left_out == {}
    round_ = Round(project_id=project.id, number=1, kind="dpo", trigger="button", parent_id=version.id)
    db.add(round_)
    db.flush()
    freeze(db, round_)
    db.expire_all()
    assert db.get_one(Assignment, work.assignment_id).frozen_at is not None
    assert db.get_one(Assignment, check.assignment_id).frozen_at is not None, "what stays changeable would be a check"
    assert db.scalars(select(RoundExample.comparison_id)).all() == [work.comparison_id]


def test_old_votes_weigh_less_where_the_project_says_so(db: Session, project: Project, version: Version) -> None:
    now = utcnow()
    make_vote(db, make_comparison(db, project, version=version), created_at=now - timedelta(days=14))
    assert [item.weight for item in collect(db, project, now=now).preferences] == [1.0]
    project.aggregation = {"half_life_days": 7}
    assert [item.weight for item in collect(db, project, now=now).preferences] == [0.25]


def test_votes_weigh_by_the_skill_of_who_gave_them(db: Session, project: Project, version: Version) -> None:
    """Four agree on forty pairs; the fifth says the contrary of them on half of them."""
    crew, odd = [make_user(db) for _ in range(4)], make_user(db)
    for number in range(40):
        pair = make_comparison(db, project, version=version, slots=5)
        for slot, who in enumerate(crew):
            make_vote(db, pair, reviewer=who, choice="a", slot=slot)
        make_vote(db, pair, reviewer=odd, choice="ab"[number % 2], slot=4)
    project.aggregation = {"skill": True}
    weights: dict[object, set[float]] = {}
    for item in collect(db, project).preferences:
        weights.setdefault(item.reviewer_id, set()).add(item.weight)
    assert all(len(found) == 1 for found in weights.values())
    (of_odd,) = weights.pop(odd.id)
    assert of_odd < 0.2
    assert all(next(iter(found)) > 1 for found in weights.values())


def ranking_vote(db: Session, comparison: Comparison, tiers: list[list[int]], **columns: object):
    vote = make_vote(db, comparison, choice="tie")
    vote.choice = vote.shown_choice = "ranked"
    vote.ranking = tiers
    for name, value in columns.items():
        setattr(vote, name, value)
    db.flush()
    return vote


def test_rankings_reach_the_trainers_groups_frozen_and_replayed(
    db: Session, project: Project, version: Version
) -> None:
    comparison = make_ranking(db, project, version=version)
    items = db.scalars(
        select(ComparisonItem.completion_id)
        .where(ComparisonItem.comparison_id == comparison.id)
        .order_by(ComparisonItem.position)
    ).all()
    count = len(items)
    tiers = [[1], [0], *([[place] for place in range(2, count)])]
    ranking_vote(db, comparison, tiers)
    round_ = Round(project_id=project.id, number=1, kind="dpo", trigger="button", parent_id=version.id)
    db.add(round_)
    db.flush()
    frozen = freeze(db, round_)
    assert (frozen.counts["rankings"], frozen.counts["train"]) == (1, 1)
    (line,) = snapshot_lines(db, round_.id)
    group = parse_group(json.loads(line))
    assert group.preferences == []
    (ranking,) = group.rankings
    named = [[group.completions[index].id for index in tier] for tier in ranking.tiers]
    assert named == [[str(items[place]) for place in tier] for tier in tiers]
    made = list(export_rows(db, project, "trl"))
    assert len(made) == count * (count - 1) // 2


def tokenise(db: Session, project: Project) -> int:
    edits = corrections.pending(db, project)
    return corrections.store(db, project, [(edit, [40 + len(edit.text), 2]) for edit in edits])


def test_an_edit_becomes_a_human_completion_above_both_answers(db: Session, project: Project, version: Version) -> None:
    pair = make_comparison(db, project, version=version)
    vote = make_vote(db, pair, choice="b", corrected="Much better said.")
    assert [item.outcome for item in collect(db, project).preferences] == ["b"], "not before it has tokens"
    (edit,) = corrections.pending(db, project)
    edited = db.get_one(Completion, pair.completion_b_id)
    assert (edit.text, edit.prompt_ids, edit.end_id) == ("Much better said.", edited.prompt_ids, edited.ids[-1])
    assert tokenise(db, project) == 1
    assert corrections.pending(db, project) == []
    (group,) = groups(db, collect(db, project).preferences)
    human = next(item for item in group["completions"] if item["end"] == "human")
    assert (human["text"], human["ids"]) == ("Much better said.", [57, 2])
    place = group["completions"].index(human)
    ids = [item["id"] for item in group["completions"]]
    said = {(item["a"], item["b"], item["outcome"]) for item in group["preferences"]}
    a, b = ids.index(str(pair.completion_a_id)), ids.index(str(pair.completion_b_id))
    assert said == {(a, b, "b"), (place, b, "a"), (place, a, "a")}
    assert [item["id"] for item in group["preferences"]] == [str(vote.id), f"{vote.id}.1", f"{vote.id}.2"]
    parse_group(json.loads(json.dumps(group)))
    (battle,) = export_rows(db, project, "arena")
    assert (battle["model_a"], battle["model_b"], battle["winner"]) == ("tone-v1", "tone-v1", "model_b")


def test_an_edit_of_a_rankings_best_stands_above_it(db: Session, project: Project, version: Version) -> None:
    comparison = make_ranking(db, project, version=version)
    count = len(db.scalars(select(ComparisonItem).where(ComparisonItem.comparison_id == comparison.id)).all())
    ranking_vote(db, comparison, [[1], *[[p] for p in range(count) if p != 1]], corrected="Said by a person.")
    assert tokenise(db, project) == 1
    (item,) = collect(db, project).preferences
    assert len(item.tiers) == count + 1
    assert db.get_one(Completion, item.tiers[0][0]).end == "human"


def test_an_edit_is_tokenised_once_and_only_of_the_latest_word(db: Session, project: Project, version: Version) -> None:
    pair = make_comparison(db, project, version=version)
    make_vote(db, pair, choice="a", corrected="First thought.")
    first = corrections.pending(db, project)
    assert corrections.store(db, project, [(edit, [7, 2]) for edit in first]) == 1
    assert corrections.store(db, project, [(edit, [8, 2]) for edit in first]) == 0
    humans = db.scalars(select(Completion).where(Completion.end == "human")).all()
    assert [item.ids for item in humans] == [[7, 2]]
