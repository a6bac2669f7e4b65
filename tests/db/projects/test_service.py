"""Projects in Postgres: made whole or not at all, changed field by field, never without an admin."""

import threading

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.db.base import utcnow
from app.db.session import make_session_factory, transaction
from app.db.tables import AuditEntry, Membership, Project, User
from app.errors import NotFoundError
from app.projects import queries
from app.projects.service import (
    BaseModelFixedError,
    LastAdminError,
    UnknownPersonError,
    create_project,
    person,
    remove_member,
    set_member,
    update_project,
)
from app.projects.validation import ProjectInvalidError
from tests.factories import rows


def test_a_project_is_made_with_its_creator_as_admin(db: Session) -> None:
    ann = rows.make_user(db)
    project = create_project(
        db,
        name="Tone of voice",
        base_model="owner/model",
        created_by=ann.id,
        training={"loss": "dpop"},
        sampling={"temperature": 0.8},
        round_schedule="0 3 * * *",
        round_every_votes=50,
    )
    db.expire_all()
    stored = db.scalars(select(Project)).one()
    assert stored.id == project.id
    assert (stored.slug, stored.round_every_votes) == ("tone-of-voice", 50)
    assert stored.training["loss_settings"] == {"beta": 0.3, "dpop_lambda": 50.0}
    assert stored.sampling == {
        "temperature": 0.8,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "max_tokens": 256,
        "stop": [],
    }
    assert stored.next_round_at is not None
    assert stored.next_round_at > utcnow()
    assert [(member.user.id, member.role) for member in queries.members(db, project)] == [(ann.id, "admin")]
    assert db.scalars(select(AuditEntry.action)).all() == ["project.create"]


def test_slugs_count_up_and_never_collide(db: Session) -> None:
    slugs = [create_project(db, name=name, base_model="o/m").slug for name in ["Ünïque!", "unique", "Unique", "日本"]]
    assert slugs == ["unique", "unique-2", "unique-3", "project"]
    with pytest.raises(ProjectInvalidError, match="'unique' is taken"):
        create_project(db, name="Other", base_model="o/m", slug="unique")
    assert len(db.scalars(select(Project)).all()) == 4


def test_two_at_once_with_one_name_both_get_a_slug(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    barrier = threading.Barrier(4)
    errors: list[Exception] = []

    def make() -> None:
        barrier.wait()
        try:
            with transaction(factory) as db:
                create_project(db, name="Same", base_model="o/m")
        except Exception as error:  # noqa: BLE001 - reported by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with factory() as db:
        assert sorted(db.scalars(select(Project.slug))) == ["same", "same-2", "same-3", "same-4"]


def test_an_invalid_project_leaves_nothing_behind(db: Session) -> None:
    with pytest.raises(ProjectInvalidError):
        create_project(db, name="Tone", base_model="o/m", training={"loss": "magic"})
    assert db.scalars(select(Project)).all() == []


def test_an_update_changes_what_it_names_and_nothing_else(db: Session) -> None:
    project = create_project(db, name="Tone", base_model="o/m", round_schedule="0 3 * * *", buffer_size=5)
    update_project(db, project, name="Voice", round_schedule=None, training={"loss": "dpop"})
    assert (project.name, project.slug, project.buffer_size) == ("Voice", "tone", 5)
    assert (project.round_schedule, project.next_round_at) == (None, None)
    assert project.training["loss"] == "dpop"
    with pytest.raises(ProjectInvalidError, match=r"training\.loss"):
        update_project(db, project, name="Lost", training={"loss": "magic"})
    db.refresh(project)
    assert project.name == "Voice"
    with pytest.raises(ProjectInvalidError, match="slug"):
        update_project(db, project, slug="other")


def test_the_base_model_changes_only_until_version_1(db: Session) -> None:
    project = create_project(db, name="Tone", base_model="o/m")
    with pytest.raises(ProjectInvalidError, match="only site admins"):
        update_project(db, project, base_model="/etc")
    update_project(db, project, base_model="o/better", by_site_admin=True)
    assert project.base_model == "o/better"
    rows.make_version(db, project, number=1)
    with pytest.raises(BaseModelFixedError, match="o/better"):
        update_project(db, project, base_model="o/m")
    update_project(db, project, base_model="o/better", name="Still")
    assert project.name == "Still"


def test_a_site_admin_sees_every_project_and_others_only_theirs(db: Session) -> None:
    first, second = (create_project(db, name=name, base_model="o/m") for name in ("One", "Two"))
    bo = rows.make_member(db, first, role="reviewer")
    seen = queries.mine(db, user_id=bo.id, is_site_admin=False)
    assert [(item.project.id, item.role) for item in seen] == [(first.id, "reviewer")]
    seen = queries.mine(db, user_id=bo.id, is_site_admin=True)
    assert [(item.project.id, item.role) for item in seen] == [(second.id, "admin"), (first.id, "admin")]
    assert [item.project.id for item in queries.mine(db, user_id=bo.id, is_site_admin=True, after=second.id)] == [
        first.id
    ]


def test_members_come_change_and_go_but_an_admin_stays(db: Session) -> None:
    ann, bo = rows.make_user(db), rows.make_user(db)
    project = create_project(db, name="Tone", base_model="o/m", created_by=ann.id)
    set_member(db, project, bo, "reviewer")
    with pytest.raises(LastAdminError):
        set_member(db, project, ann, "reviewer")
    with pytest.raises(LastAdminError):
        remove_member(db, project, ann)
    set_member(db, project, bo, "admin")
    remove_member(db, project, ann)
    assert [(member.user.id, member.role) for member in queries.members(db, project)] == [(bo.id, "admin")]
    with pytest.raises(NotFoundError):
        remove_member(db, project, ann)


def test_two_admins_cannot_remove_each_other_at_once(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        ann, bo = rows.make_user(db), rows.make_user(db)
        project = create_project(db, name="Tone", base_model="o/m", created_by=ann.id)
        set_member(db, project, bo, "admin")
    barrier = threading.Barrier(2)
    refused: list[Exception] = []

    def remove(user: User) -> None:
        with factory() as db:
            barrier.wait()
            try:
                remove_member(db, project, user)
                db.commit()
            except LastAdminError as error:
                refused.append(error)

    threads = [threading.Thread(target=remove, args=(user,)) for user in (ann, bo)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    with factory() as db:
        assert len(db.scalars(select(Membership)).all()) == 1


def test_people_are_found_by_address_however_it_is_written(db: Session) -> None:
    ann = rows.make_user(db, email="ann@example.org")
    assert person(db, " Ann@Example.ORG ").id == ann.id
    with pytest.raises(UnknownPersonError, match=r"'nobody@example\.org'"):
        person(db, "nobody@example.org")
    ann.is_active = False
    db.flush()
    with pytest.raises(UnknownPersonError):
        person(db, "ann@example.org")
