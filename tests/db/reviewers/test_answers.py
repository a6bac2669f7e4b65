"""What a reviewer said, as admins of the project read it."""

import re

import pytest
from sqlalchemy import select

from app.comparisons.service import lease_ahead, lease_next, record_vote, undo_vote
from app.db.session import transaction
from app.db.tables import Comparison, Project, User
from app.reviewers.pages import ANSWERS_PER_PAGE
from tests.factories import rows
from tests.fixtures.portal import Caller, Portal


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers."""
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user)
    return portal.browser(user)


def crew(portal: Portal) -> tuple[Project, User]:
    with transaction(portal.factory) as db:
        project = db.scalars(select(Project)).one()
        project.reviewing = {"criteria": [{"key": "kind", "label": "Kinder"}], "tags": ["clearer"], "scale": "strength"}
        return project, rows.make_member(db, project)


def test_admins_read_what_was_said_and_what_was_said_before(portal: Portal, ann: Caller) -> None:
    project, reviewer = crew(portal)
    with transaction(portal.factory) as db:
        project = db.get_one(Project, project.id)
        version = rows.make_version(db, project, number=1)
        prompt = rows.make_prompt(db, project, text="How do I boil <i>eggs</i>?")
        rows.make_comparison(db, project, version=version, prompt=prompt, texts=("Seven minutes.", "In water."))
        rows.make_comparison(db, project, version=version)
        criteria = {"criteria": {"kind": "b"}}
        for said in (
            {"choice": "b", "strength": 1, "comment": "At first sight"},
            {"choice": "a", "strength": 3, "comment": "Says <b>how long</b>", "tags": ["clearer"], **criteria},
        ):
            leased = lease_next(db, project=project, reviewer_id=reviewer.id)
            if said["choice"] == "b":
                first = leased
            record_vote(db, reviewer_id=reviewer.id, assignment_id=first.assignment_id, source="web", **said)
        leased = lease_next(db, project=project, reviewer_id=reviewer.id)
        skip = {"choice": "skip", "reason": "expertise"}
        record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, source="web", **skip)
    page = ann.get(f"/p/tone/reviewers/{reviewer.id}/answers").text
    assert f"/p/tone/reviewers/{reviewer.id}/answers" in ann.get(f"/p/tone/reviewers/{reviewer.id}").text
    assert page.index("I do not know enough about this") < page.index("A is much better"), "newest first"
    for told in ("eggs", "Seven minutes.", "Says &lt;b&gt;how long&lt;/b&gt;", "clearer", "Kinder"):
        assert told in page
    assert "What they said before (1)" in page
    assert page.index("A is much better") < page.index("B is slightly better") < page.index("At first sight")
    assert re.search(r'answer chosen">.*?>A<', page, re.DOTALL)
    assert "version" not in re.search(r"<main.*</main>", page, re.DOTALL).group().lower(), "judged blind, read blind"


def test_checks_are_named_and_whether_they_were_found(portal: Portal, ann: Caller) -> None:
    project, reviewer = crew(portal)
    with transaction(portal.factory) as db:
        project = db.get_one(Project, project.id)
        project.queue = {"qualification_pairs": 5}
        for _ in range(4):
            rows.make_control(db, project)
        for better in (True, False, True):
            leased = lease_next(db, project=project, reviewer_id=reviewer.id)
            left_is_better = db.get_one(Comparison, leased.comparison_id).first_left == "a"
            said = {"choice": "a" if left_is_better == better else "b", "strength": 2, "source": "web"}
            record_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id, **said)
        undo_vote(db, reviewer_id=reviewer.id, assignment_id=leased.assignment_id)
        skipped = lease_ahead(db, project=project, reviewer_id=reviewer.id, holding=leased.assignment_id)
        record_vote(db, reviewer_id=reviewer.id, assignment_id=skipped.assignment_id, choice="skip", source="web")
    page = ann.get(f"/p/tone/reviewers/{reviewer.id}/answers").text
    assert page.count('<li class="card">') == 3, "what was taken back is not said"
    assert page.count(">gold<") == 3
    assert page.count(">the better answer<") == page.count(">not the better answer<") == 1, "a skip finds none"


def test_they_come_in_pages(portal: Portal, ann: Caller) -> None:
    project, reviewer = crew(portal)
    with transaction(portal.factory) as db:
        project = db.get_one(Project, project.id)
        version = rows.make_version(db, project, number=1)
        for _ in range(ANSWERS_PER_PAGE + 3):
            rows.make_vote(db, rows.make_comparison(db, project, version=version), reviewer=reviewer)
    url = f"/p/tone/reviewers/{reviewer.id}/answers"
    first = ann.get(url).text
    assert first.count('<li class="card">') == ANSWERS_PER_PAGE
    older = re.search(r'rel="next" href="([^"]+)"', first).group(1)
    rest = ann.get(older).text
    assert rest.count('<li class="card">') == 3
    assert 'rel="next"' not in rest
    assert f'href="{url}"' in rest


def test_only_admins_of_the_project_read_them(portal: Portal, ann: Caller) -> None:
    _, reviewer = crew(portal)
    url = f"/p/tone/reviewers/{reviewer.id}/answers"
    assert portal.browser(reviewer).get(url).status_code == 403, "not even one's own: checks are named there"
    stranger = portal.user("eve@example.org")
    other = portal.project("Other", stranger)
    assert portal.browser(stranger).get(url).status_code == 404
    assert ann.get(f"/p/{other.slug}/reviewers/{reviewer.id}/answers").status_code == 404
    assert "Nothing here yet" in ann.get(url).text
