"""What training reads out of votes, and that it can be read again."""

import hashlib
import json
from datetime import datetime

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.comparisons.service import lease_next, record_vote
from app.db.base import utcnow
from app.db.tables import Assignment, Completion, Project, Prompt, Round, RoundExample, Version, Vote
from app.preferences import reading
from app.preferences.collecting import collect
from app.preferences.export import ExportFormatUnknownError, export_rows
from app.preferences.groups import groups, snapshot_lines
from app.preferences.service import freeze
from tests.factories.rows import (
    make_comparison,
    make_completion,
    make_control,
    make_project,
    make_prompt,
    make_ranking,
    make_user,
    make_version,
    make_vote,
)
from worker.trainer.data import parse_group


@pytest.fixture
def project(db: Session) -> Project:
    return make_project(db, slug="tone", held_out_percent=10)


@pytest.fixture
def version(db: Session, project: Project) -> Version:
    return make_version(db, project, number=1)


def make_round(db: Session, project: Project, version: Version, number: int = 1) -> Round:
    round_ = Round(project_id=project.id, number=number, kind="dpo", trigger="button", parent_id=version.id)
    db.add(round_)
    db.flush()
    return round_


def revise(db: Session, vote: Vote, choice: str, **columns: object) -> Vote:
    later = Vote(
        project_id=vote.project_id,
        comparison_id=vote.comparison_id,
        assignment_id=vote.assignment_id,
        reviewer_id=vote.reviewer_id,
        revision=vote.revision + 1,
        choice=choice,
        shown_choice={"a": "left", "b": "right"}.get(choice, choice),
        source="web",
        **columns,
    )
    db.add(later)
    db.flush()
    return later


def test_each_vote_is_one_preference_with_its_strength(db: Session, project: Project, version: Version) -> None:
    pair = make_comparison(db, project, version=version, slots=3)
    for slot, (choice, strength) in enumerate([("a", None), ("b", 2), ("a", 3)]):
        make_vote(db, pair, choice=choice, slot=slot, strength=strength)
    collected = collect(db, project)
    assert [(item.outcome, item.margin, item.weight) for item in collected.preferences] == [
        ("a", 0.0, 1.0),
        ("b", 0.5, 1.0),
        ("a", 1.0, 1.0),
    ]
    assert collected.contradictions == 1
    assert collected.counts()["reviewers"] == 3


def test_ties_and_both_bad_are_outcomes(db: Session, project: Project, version: Version) -> None:
    for choice in ("tie", "both_bad"):
        make_vote(db, make_comparison(db, project, version=version), choice=choice)
    collected = collect(db, project)
    assert sorted(item.outcome for item in collected.preferences) == ["both_bad", "tie"]
    assert (collected.counts()["ties"], collected.counts()["both_bad"]) == (1, 1)


def test_only_the_latest_revision_speaks(db: Session, project: Project, version: Version) -> None:
    vote = make_vote(db, make_comparison(db, project, version=version), choice="a")
    later = revise(db, vote, "b")
    (item,) = collect(db, project).preferences
    assert (item.outcome, item.vote_id) == ("b", later.id)


def test_what_does_not_count_is_left_out_and_counted_by_reason(db: Session, project: Project, version: Version) -> None:
    def pair(**options: object):
        return make_comparison(db, project, version=version, **options)

    undone = make_vote(db, pair(), choice="a")
    revise(db, undone, "undone")
    db.get_one(Assignment, undone.assignment_id).state = "expired"

    skipped = make_vote(db, pair(), choice="a")
    revise(db, skipped, "skip")
    db.get_one(Assignment, skipped.assignment_id).state = "skipped"

    surplus = make_vote(db, pair(), choice="a", surplus=True)
    db.get_one(Assignment, surplus.assignment_id).state = "surplus"

    flagged = pair(slots=2)
    make_vote(db, flagged, choice="a", slot=0)
    flag = make_vote(db, flagged, choice="b", slot=1)
    revise(db, flag, "flag", reason="broken")
    flagged.state = "flagged"

    make_vote(db, pair(texts=("the same", "the same")), choice="a")

    prompt = make_prompt(db, project)
    other = make_comparison(db, project, version=version, prompt=prompt)
    other.completion_b_id = make_completion(db, prompt, version=version, prompt_ids=(1, 99), ids=(5, 2)).id
    make_vote(db, other, choice="b")
    db.flush()

    kept = make_vote(db, pair(), choice="b")
    collected = collect(db, project)
    assert [item.vote_id for item in collected.preferences] == [kept.id]
    assert collected.left_out == {
        "undone": 1,
        "skip": 1,
        "surplus": 1,
        "flagged": 1,
        "flag": 1,
        "identical": 1,
        "other_prompt": 1,
    }


def test_completions_with_the_same_tokens_are_identical(db: Session, project: Project, version: Version) -> None:
    prompt = make_prompt(db, project)
    pair = make_comparison(db, project, version=version, prompt=prompt)
    a, b = pair.completion_a_id, pair.completion_b_id
    db.get_one(Completion, a).ids = db.get_one(Completion, b).ids = [7, 2]
    db.flush()
    make_vote(db, pair, choice="a")
    assert collect(db, project).left_out == {"identical": 1}


def test_held_out_prompts_never_enter_the_training_split(db: Session, project: Project, version: Version) -> None:
    for n in range(8):
        make_vote(db, make_comparison(db, project, version=version, held_out=n % 2 == 0), choice="a")
    round_ = make_round(db, project, version)
    frozen = freeze(db, round_)
    rows = db.execute(
        select(RoundExample.split, RoundExample.prompt_id).where(RoundExample.round_id == round_.id)
    ).all()
    assert len(rows) == 8
    for row in rows:
        assert (row.split == "eval") == db.get_one(Prompt, row.prompt_id).held_out
    assert (frozen.counts["train"], frozen.counts["eval"]) == (4, 4)


def test_a_snapshot_is_replayed_byte_for_byte_whatever_is_voted_later(
    db: Session, project: Project, version: Version
) -> None:
    prompt = make_prompt(db, project, text="Zwölf Gäste – was koche ich?")
    for _ in range(2):
        make_vote(db, make_comparison(db, project, version=version, prompt=prompt, slots=2), choice="a", strength=3)
    make_vote(db, make_comparison(db, project, version=version, held_out=True), choice="tie")
    round_ = make_round(db, project, version)
    frozen = freeze(db, round_)
    first = b"".join(snapshot_lines(db, round_.id))
    assert frozen.hash == hashlib.sha256(first).hexdigest()

    make_vote(db, make_comparison(db, project, version=version, prompt=prompt), choice="b")
    db.expire_all()
    assert b"".join(snapshot_lines(db, round_.id)) == first
    later = make_round(db, project, version, number=2) if _end(db, round_) else None
    assert later is not None
    assert freeze(db, later).hash != frozen.hash


def _end(db: Session, round_: Round) -> bool:
    round_.state = "done"
    db.flush()
    return True


def test_the_trainer_reads_the_lines(db: Session, project: Project, version: Version) -> None:
    prompt = make_prompt(db, project)
    for choice in ("a", "tie"):
        make_vote(db, make_comparison(db, project, version=version, prompt=prompt), choice=choice)
    round_ = make_round(db, project, version)
    freeze(db, round_)
    (line,) = snapshot_lines(db, round_.id)
    group = parse_group(json.loads(line))
    assert group.id == str(prompt.id)
    assert len(group.completions) == 4
    assert [item.outcome for item in group.preferences] == ["a", "tie"]
    assert group.completions[group.preferences[0].a].ids != group.completions[group.preferences[0].b].ids


def test_freezing_fixes_the_votes_it_read_and_no_others(db: Session, project: Project, version: Version) -> None:
    read = make_vote(db, make_comparison(db, project, version=version), choice="a")
    surplus = make_vote(db, make_comparison(db, project, version=version), choice="a", surplus=True)
    db.get_one(Assignment, surplus.assignment_id).state = "surplus"
    freeze(db, make_round(db, project, version))
    db.expire_all()
    frozen_at = db.get_one(Assignment, read.assignment_id).frozen_at
    assert frozen_at is not None
    assert frozen_at <= utcnow()
    assert db.get_one(Assignment, surplus.assignment_id).frozen_at is None


def test_a_prompt_tokenised_in_two_ways_makes_two_groups(db: Session, project: Project, version: Version) -> None:
    prompt = make_prompt(db, project)
    for prompt_ids in ((1, 10), (1, 10, 3)):
        pair = make_comparison(db, project, version=version, prompt=prompt)
        for id_ in (pair.completion_a_id, pair.completion_b_id):
            db.get_one(Completion, id_).prompt_ids = list(prompt_ids)
        make_vote(db, pair, choice="a")
    made = list(groups(db, collect(db, project).preferences))
    assert [group["id"] for group in made] == [str(prompt.id), f"{prompt.id}.2"]
    assert [group["prompt_ids"] for group in made] == [[1, 10], [1, 10, 3]]


def test_export_for_trl(db: Session, project: Project, version: Version) -> None:
    prompt = make_prompt(db, project, text="Hello?")
    make_vote(db, make_comparison(db, project, version=version, prompt=prompt, texts=("no", "yes")), choice="b")
    make_vote(db, make_comparison(db, project, version=version, prompt=prompt), choice="tie")
    assert list(export_rows(db, project, "trl")) == [
        {
            "prompt": [{"role": "user", "content": "Hello?"}],
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "no"}],
            "split": "train",
            "adjudicated": False,
        }
    ]


def test_export_as_arena_battles(db: Session, project: Project, version: Version) -> None:
    prompt = make_prompt(db, project, text="Hello?")
    judge = make_user(db)
    pair = make_comparison(db, project, version=version, prompt=prompt, texts=("no", "yes"))
    vote = make_vote(db, pair, choice="both_bad", reviewer=judge)
    (row,) = export_rows(db, project, "arena")
    assert row == {
        "question_id": str(prompt.id),
        "model_a": "tone-v1",
        "model_b": "tone-v1",
        "winner": "tie (bothbad)",
        "judge": str(judge.id),
        "conversation_a": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "no"}],
        "conversation_b": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "yes"}],
        "turn": 1,
        "anony": True,
        "language": "unknown",
        "tstamp": vote.created_at.timestamp(),
        "split": "train",
    }


def test_export_of_every_vote_as_it_was_cast(db: Session, project: Project, version: Version) -> None:
    prompt, reviewer = make_prompt(db, project, text="Hello?", held_out=True), make_user(db)
    pair = make_comparison(db, project, version=version, prompt=prompt, texts=("no", "yes"), slots=2)
    said = {"strength": 2, "comment": "Curt — but right.", "tags": ["clearer"], "criteria": {"tone": "b"}}
    first = make_vote(db, pair, choice="b", reviewer=reviewer, seconds=4.5, corrected="yes!", **said)
    record_vote(db, reviewer_id=reviewer.id, assignment_id=first.assignment_id, choice="tie", source="api")
    other = make_comparison(db, project, version=version)
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    assert leased.comparison_id == other.id
    skip = {"choice": "skip", "reason": "I am no doctor", "source": "api"}
    record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, **skip)
    rows = list(export_rows(db, project, "votes"))
    assert json.loads(json.dumps(rows)) == rows, "JSON as it is"
    assert [(row["choice"], row["revision"], row["latest"], row["counts"], row["left_out"]) for row in rows] == [
        ("b", 1, False, False, "replaced"), ("tie", 2, True, True, None), ("skip", 1, True, False, "skip")]  # fmt: skip
    one = rows[0]
    assert {key: one[key] for key in said} == said
    assert (one["reviewer"], one["source"], one["seconds"], one["corrected"]) == (reviewer.email, "web", 4.5, "yes!")
    assert (one["shown_choice"], one["left_side"], one["purpose"], one["split"]) == ("right", "a", "work", "eval")
    assert [(answer["text"], answer["version"]) for answer in one["answers"]] == [("no", 1), ("yes", 1)]
    assert one["prompt"] == [{"role": "user", "content": "Hello?"}]
    assert datetime.fromisoformat(one["created_at"]) == first.created_at
    assert rows[2]["reason"] == "I am no doctor"
    assert [row["split"] for row in export_rows(db, project, "votes", split="train")] == ["train"]


def test_a_check_and_a_ranking_are_votes_too(db: Session, project: Project, version: Version) -> None:
    ranking = make_ranking(db, project, version=version)
    items = [answer.id for answer in db.scalars(select(Completion).order_by(Completion.id))]
    make_vote(db, ranking, choice="ranked", ranking=[[2], [0, 1]])
    project.queue = {"qualification_pairs": 1}
    control = make_control(db, project, answer="b")
    db.flush()
    reviewer = make_user(db)
    leased = lease_next(db, project=project, reviewer_id=reviewer.id)
    record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, choice="a", source="web")
    ranked, check = export_rows(db, project, "votes")
    assert (ranked["choice"], ranked["ranking"], ranked["counts"]) == ("ranked", [[2], [0, 1]], True)
    assert [answer["completion_id"] for answer in ranked["answers"]] == [str(id_) for id_ in items[:3]]
    assert (check["purpose"], check["known_answer"], check["counts"], check["left_out"]) == (
        "gold", "b", False, "check")  # fmt: skip
    assert check["prompt_id"] == str(control.prompt_id)


def test_exports_can_leave_out_what_is_held_out(db: Session, project: Project, version: Version) -> None:
    make_vote(db, make_comparison(db, project, version=version, held_out=True), choice="a")
    make_vote(db, make_comparison(db, project, version=version), choice="a")
    for export_format in ("trl", "arena", "groups"):
        assert len(list(export_rows(db, project, export_format))) == 2
        assert len(list(export_rows(db, project, export_format, split="train"))) == 1
        (held_out,) = export_rows(db, project, export_format, split="eval")
        assert held_out["split"] == "eval"


def test_an_unknown_format_is_refused_with_those_there_are(db: Session, project: Project) -> None:
    with pytest.raises(ExportFormatUnknownError) as refused:
        export_rows(db, project, "csv")
    assert "trl" in refused.value.mend


def test_no_vote_is_looked_up_by_going_through_all_of_them(db: Session, project: Project) -> None:
    """By the plan: within what is done for each vote, nothing goes through the latest votes again."""
    plan = db.execute(text(f"EXPLAIN {reading.SPOKEN}"), reading.values(project)).scalars().all()
    inner = [line for line, before in zip(plan[1:], plan, strict=False) if "SubPlan" in before]
    assert plan
    assert not [line for line in inner if "CTE Scan on latest" in line]
