"""Comparing through the API: what a program sends, and what it is told."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, update

from app.comparisons.service import lease_next
from app.db.base import utcnow
from app.db.ids import new_id
from app.db.tables import Assignment, Comparison, Completion, Project, Version, Vote
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal

NEXT = "/api/v1/projects/alpha/comparisons/next"
MINE = "/api/v1/projects/alpha/votes"


def votes_url(comparison: Any) -> str:
    return f"/api/v1/comparisons/{comparison}/votes"


@pytest.fixture
def shop(portal: Portal) -> Callable[..., Project]:
    """``shop(pairs=2)``: the project alpha with that many pairs."""

    def make(pairs: int = 1, slots: int = 1, **settings: Any) -> Project:
        with portal.db() as db, db.begin():
            project = rows.make_project(db, slug="alpha", buffer_size=1, **settings)
            version = rows.make_version(db, project, number=1)
            for number in range(pairs):
                rows.make_comparison(
                    db, project, version=version, texts=(f"left {number}", f"right {number}"), slots=slots
                )
        return project

    return make


def reviewer(portal: Portal, project: Project, email: str = "rev@example.org") -> Caller:
    return portal.token(portal.member(project, email), "votes:write")


def test_take_vote_and_look_back(portal: Portal, shop: Callable[..., Project]) -> None:
    me = reviewer(portal, shop(pairs=1, reviewing={"scale": "strength"}))
    taken = me.post(NEXT)
    assert taken.status_code == 200
    pair = taken.json()
    assert set(pair) == {"id", "messages", "mode", "answers", "a", "b", "asks", "lease_expires_at", "previous_choice"}
    assert (pair["a"], pair["b"], pair["previous_choice"]) == ("left 0", "right 0", None)
    assert pair["messages"][-1]["role"] == "user"
    assert me.post(NEXT).json() == pair
    vote = me.post(votes_url(pair["id"]), json={"choice": "b", "strength": 3, "comment": "warmer", "seconds": 2.5})
    assert vote.status_code == 201
    assert vote.json() | {"id": None, "created_at": None} == {
        "id": None,
        "comparison_id": pair["id"],
        "choice": "b",
        "counted": True,
        "surplus": False,
        "revision": 1,
        "created_at": None,
    }
    assert me.post(NEXT).status_code == 204
    history = me.get("/api/v1/projects/alpha/votes").json()
    assert history["next_cursor"] is None
    assert [(item["choice"], item["comment"], item["changeable"]) for item in history["items"]] == [
        ("b", "warmer", True)
    ]


def test_the_same_key_is_answered_with_the_same_bytes(portal: Portal, shop: Callable[..., Project]) -> None:
    me = reviewer(portal, shop())
    pair = me.post(NEXT).json()
    answers = [
        me.post(votes_url(pair["id"]), json={"choice": "a"}, headers={"Idempotency-Key": "one"}) for _ in range(3)
    ]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true", "true"]
    other = me.post(votes_url(pair["id"]), json={"choice": "b"}, headers={"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert "new key" in other.json()["mend"]


def test_taking_back_is_repeatable_and_gives_the_pair_back(portal: Portal, shop: Callable[..., Project]) -> None:
    me = reviewer(portal, shop(pairs=2))
    pair = me.post(NEXT).json()
    mine = f"/api/v1/comparisons/{pair['id']}/votes/mine"
    early = me.client.delete(mine)
    assert (early.status_code, early.json()["code"]) == (409, "nothing_to_undo")
    me.post(votes_url(pair["id"]), json={"choice": "a"})
    back = [me.client.delete(mine) for _ in range(2)]
    assert [answer.status_code for answer in back] == [200, 200]
    assert back[0].json() == back[1].json()
    assert back[0].json()["id"] == pair["id"]
    assert me.post(NEXT).json()["id"] == pair["id"]
    with portal.db() as db, db.begin():
        assert db.scalars(select(Vote.choice).order_by(Vote.revision)).all() == ["a", "undone"]


def test_what_a_round_has_read_is_told_so(portal: Portal, shop: Callable[..., Project]) -> None:
    me = reviewer(portal, shop())
    pair = me.post(NEXT).json()
    me.post(votes_url(pair["id"]), json={"choice": "a"})
    with portal.db() as db, db.begin():
        db.execute(update(Assignment).values(frozen_at=utcnow()))
    for answer in (
        me.post(votes_url(pair["id"]), json={"choice": "b"}),
        me.client.delete(f"/api/v1/comparisons/{pair['id']}/votes/mine"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "vote_frozen")
        assert answer.json()["mend"]


def test_what_is_not_mine_and_what_is_not_there_look_alike(portal: Portal, shop: Callable[..., Project]) -> None:
    project = shop(pairs=1)
    holder, thief = reviewer(portal, project), reviewer(portal, project, "thief@example.org")
    stranger = reviewer(portal, portal.project("Elsewhere"), "stranger@example.org")
    pair = holder.post(NEXT).json()
    answers = [
        caller.post(votes_url(target), json={"choice": "a"})
        for caller, target in [(thief, pair["id"]), (stranger, pair["id"]), (stranger, uuid4())]
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    foreign, nothing = (answer.json() | {"request_id": None} for answer in answers[1:])
    assert foreign == nothing, "an id of another project is answered like one that does not exist"
    assert answers[0].json()["code"] == "lease_not_found"
    assert "next comparison" in answers[0].json()["mend"]


@pytest.mark.parametrize(
    "body",
    [
        {"choice": "left"},
        {"choice": "undone"},
        {},
        {"choice": "flag"},
        {"choice": "a", "strength": 9},
        {"choice": "tie", "strength": 2},
        {"choice": "a", "version": 3},
        {"choice": "a", "comment": "x" * 5000},
        {"choice": "a", "seconds": "NaN"},
    ],
)
def test_a_vote_that_makes_no_sense_is_refused_and_the_pair_kept(
    portal: Portal, shop: Callable[..., Project], body: dict[str, Any]
) -> None:
    me = reviewer(portal, shop())
    pair = me.post(NEXT).json()
    answer = me.post(votes_url(pair["id"]), json=body)
    assert answer.status_code == 422
    assert answer.json()["mend"]
    assert me.post(NEXT).json() == pair


def test_an_acknowledged_vote_was_committed_before_the_answer(portal: Portal, shop: Callable[..., Project]) -> None:
    """When the commit fails, nobody is told that the vote was stored."""
    me = reviewer(portal, shop())
    pair = me.post(NEXT).json()

    def fail(_connection: Any) -> None:
        raise RuntimeError("the disk is full")

    event.listen(portal.app.state.engine, "commit", fail)
    answer = me.post(votes_url(pair["id"]), json={"choice": "a"})
    event.remove(portal.app.state.engine, "commit", fail)
    assert answer.status_code == 500
    with portal.db() as db:
        assert db.scalars(select(Vote)).all() == []


def test_my_votes_come_page_by_page(portal: Portal, shop: Callable[..., Project]) -> None:
    me = reviewer(portal, shop(pairs=5))
    for _ in range(5):
        me.post(votes_url(me.post(NEXT).json()["id"]), json={"choice": "tie"})
    seen, cursor = [], ""
    while cursor is not None:
        page = me.get(f"/api/v1/projects/alpha/votes?limit=2{cursor and '&cursor=' + cursor}").json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)


def test_the_description_has_examples_for_what_is_sent_and_given(portal: Portal, shop: Callable[..., Project]) -> None:
    me = reviewer(portal, shop())
    schema = me.get("/api/openapi.json").json()
    for name in ("VoteIn", "VoteOut", "ComparisonOut"):
        assert schema["components"]["schemas"][name]["examples"], name
    operation = schema["paths"]["/api/v1/comparisons/{comparison_id}/votes"]["post"]
    assert "idempotency-key" in [parameter["name"].lower() for parameter in operation["parameters"]]
    assert {"201", "404", "409", "422"} <= set(operation["responses"])
    assert "422" not in schema["paths"]["/v1/chat/completions"]["post"]["responses"], "it is 400 there"


def test_generated_clients_have_a_name_for_everything(portal: Portal, shop: Callable[..., Project]) -> None:
    """Generators take the title of a schema for its class, and leave out what has the name of another."""
    schema = reviewer(portal, shop()).get("/api/openapi.json").json()
    titles = [made["title"] for made in schema["components"]["schemas"].values() if "title" in made]
    assert len(titles) == len(set(titles))
    operations = [
        operation for path in schema["paths"].values() for name, operation in path.items() if name != "parameters"
    ]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert {"projects_change", "comparisons_take_next", "chat_chat_completions"} <= set(ids)
    for operation in operations:
        for status, told in operation["responses"].items():
            assert "content" in told or status == "204", (operation["operationId"], status)


def test_nothing_tells_which_version_wrote_what(portal: Portal) -> None:
    """Every way a reviewer can look, scanned for ids, numbers, names and token ids of what is behind the answers."""
    with portal.db() as db, db.begin():
        project = rows.make_project(db, slug="alpha", base_model="secret/base-model")
        old = rows.make_version(db, project, number=70707)
        new = rows.make_version(db, project, number=80808, metrics={"win_rate": 0.91919})
        prompt = rows.make_prompt(db, project)
        written = [
            rows.make_completion(db, prompt, version=version, text=text, ids=(987654, 2), prompt_ids=(876543,))
            for version, text in ((old, "alpha answer"), (new, "beta answer"))
        ]
        from random import Random

        from app.comparisons.service import create_comparison

        made = create_comparison(
            db,
            project=project,
            completion_a=written[0],
            completion_b=written[1],
            slots=2,
            rng=Random(1),
            strategy="gate-strategy",
            propensity=0.12345,
        )
        secrets = [
            *(str(version.id) for version in (old, new)),
            *(version.digest for version in (old, new)),
            *(str(completion.id) for completion in written),
            *("70707", "80808", "0.91919", "987654", "876543", "gate-strategy", "0.12345", "secret/base-model"),
            *("left_side", "first_left", "completion_a", "version_id"),
        ]
        comparison = made.id
    person = portal.member(project, "rev@example.org")
    program, browser = portal.token(person, "votes:write"), portal.browser(person)
    texts: list[str] = []

    def look(answer: Any) -> Any:
        texts.append(f"{answer.headers!r} {answer.text}")
        return answer

    look(program.post(NEXT))
    look(browser.get("/p/alpha/compare"))
    look(browser.get("/p/alpha/compare", headers={"HX-Request": "true"}))
    look(browser.get("/p/alpha"))
    look(program.post(votes_url(comparison), json={"choice": "a"}))
    look(program.get("/api/v1/projects/alpha/votes"))
    look(browser.get("/p/alpha/answers"))
    with portal.db() as db:
        lease = db.scalars(select(Assignment.id)).one()
    look(browser.get(f"/p/alpha/compare?again={lease}"))
    look(browser.post("/p/alpha/compare/undo", {"lease": str(lease)}))
    look(browser.post("/p/alpha/compare", {"lease": str(lease), "choice": "b"}))
    look(program.client.delete(f"/api/v1/comparisons/{comparison}/votes/mine"))
    assert sum("alpha answer" in text for text in texts) >= 6, "the scan has seen the answers themselves"
    found = [(secret, text[:80]) for text in texts for secret in secrets if secret in text]
    assert found == []


def test_what_was_said_in_the_playground_can_be_taken_back_and_not_be_changed(
    portal: Portal, shop: Callable[..., Project]
) -> None:
    """The versions were shown after it."""
    person = portal.member(shop(pairs=2), "rev@example.org")
    program, browser = portal.token(person, "votes:write"), portal.browser(person)
    judged = []
    for _ in range(2):
        judged.append(UUID(program.post(NEXT).json()["id"]))
        assert program.post(votes_url(judged[-1]), json={"choice": "a"}).status_code == 201
    with portal.db() as db, db.begin():
        db.execute(update(Comparison).where(Comparison.id == judged[0]).values(strategy="playground"))
        lease = db.scalars(select(Assignment.id).where(Assignment.comparison_id == judged[0])).one()
    page = browser.get("/p/alpha/answers").text
    assert page.count("again=") == 1
    assert f"again={lease}" not in page
    assert page.count("/compare/undo") == 2


def test_the_order_on_the_page_is_the_reviewers_own(portal: Portal, shop: Callable[..., Project]) -> None:
    """Two reviewers of one pair see it mirrored, in the API as on the page, and their choices mean the same answer."""
    project = shop(pairs=1, slots=2)
    people = [portal.member(project, f"{name}@example.org") for name in ("one", "two")]
    seen = []
    for person in people:
        pair = portal.token(person, "votes:write").post(NEXT).json()
        page = portal.browser(person).get("/p/alpha/compare").text
        assert (page.index(pair["a"]) < page.index(pair["b"])) is True
        seen.append((pair["a"], pair["b"]))
        choice = "a" if pair["a"] == "left 0" else "b"
        assert portal.token(person).post(votes_url(pair["id"]), json={"choice": choice}).status_code == 201
    assert seen[0] == seen[1][::-1]
    with portal.db() as db:
        assert db.scalars(select(Vote.choice)).all() == ["a", "a"]


def test_a_removed_member_can_no_longer_vote_on_what_they_held(portal: Portal, shop: Callable[..., Project]) -> None:
    project = shop()
    me = reviewer(portal, project)
    pair = me.post(NEXT).json()
    with portal.db() as db, db.begin():
        from app.db.tables import Membership

        db.delete(db.get_one(Membership, (project.id, me.user_id)))
    assert me.post(votes_url(pair["id"]), json={"choice": "a"}).status_code == 404


def test_the_page_refuses_a_lease_of_another_project(portal: Portal, shop: Callable[..., Project]) -> None:
    project = shop()
    person = portal.member(project, "rev@example.org")
    with portal.db() as db, db.begin():
        other = rows.make_project(db, slug="beta")
        rows.make_comparison(db, other)
        leased = lease_next(db, project=other, reviewer_id=person.id)
        assert leased is not None
    browser = portal.browser(person)
    form = {"lease": str(leased.assignment_id), "choice": "a", "key": str(new_id())}
    assert browser.get(f"/p/alpha/compare?again={leased.assignment_id}").status_code == 404
    assert browser.post("/p/alpha/compare", form).status_code == 404
    assert browser.post("/p/alpha/compare/undo", form).status_code == 404
    with portal.db() as db:
        assert db.scalars(select(Vote)).all() == []


def test_ids_in_answers_are_only_those_of_the_comparison(portal: Portal, shop: Callable[..., Project]) -> None:
    me = reviewer(portal, shop())
    pair = me.post(NEXT).json()
    with portal.db() as db:
        hidden = {*db.scalars(select(Completion.id)), *db.scalars(select(Version.id)), *db.scalars(select(Project.id))}
    assert UUID(pair["id"]) not in hidden


def test_what_a_project_asks_is_told_taken_and_read_back(portal: Portal, shop: Callable[..., Project]) -> None:
    asks = {"criteria": [{"key": "helpful", "label": "Helpful"}], "tags": ["Kind"], "correction": True}
    me = reviewer(portal, shop(pairs=1, reviewing=asks | {"scale": "strength"}))
    pair = me.post(NEXT).json()
    assert pair["mode"] == "pair"
    assert pair["answers"] == [pair["a"], pair["b"]]
    assert pair["asks"]["criteria"] == [{"key": "helpful", "label": "Helpful", "scale": "preference"}]
    url = f"/api/v1/comparisons/{pair['id']}/votes"
    for wrong in ({"choice": "a", "criteria": {"kind": "a"}}, {"choice": "ranked", "ranking": [[0], [1]]}):
        refused = me.post(url, json=wrong | {"strength": 1} if wrong["choice"] == "a" else wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "vote_invalid")
    said = {"choice": "b", "criteria": {"helpful": "tie"}, "tags": ["Kind"], "corrected": "Better.", "strength": 2}
    assert me.post(url, json=said).status_code == 201
    [mine] = me.get(MINE).json()["items"]
    assert {name: mine[name] for name in said} == said


def test_answers_are_ranked_over_the_api(portal: Portal, shop: Callable[..., Project]) -> None:
    project = shop(pairs=0, reviewing={"mode": "ranking", "answers": 3})
    with portal.db() as db, db.begin():
        rows.make_ranking(db, db.merge(project), texts=("one", "two", "three"), first_left="b")
    me = reviewer(portal, project)
    pair = me.post(NEXT).json()
    assert (pair["mode"], pair["answers"]) == ("ranking", ["three", "two", "one"])
    recorded = me.post(
        f"/api/v1/comparisons/{pair['id']}/votes", json={"choice": "ranked", "ranking": [[2], [0, 1]]}
    ).json()
    assert (recorded["choice"], recorded["counted"]) == ("ranked", True)
    with portal.db() as db:
        assert db.scalars(select(Vote.ranking)).all() == [[[0], [1, 2]]]
    assert me.get(MINE).json()["items"][0]["ranking"] == [[2], [0, 1]]
