"""People, sign-ins, tokens: what holds whoever calls."""

import hashlib
import statistics
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from argon2 import PasswordHasher, extract_parameters
from sqlalchemy import Engine, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts import passwords, service, throttle
from app.accounts.keys import digest
from app.accounts.throttle import TooManyAttemptsError
from app.db.base import utcnow
from app.db.session import make_session_factory, transaction
from app.db.tables import ApiToken, LoginFailure, User, UserSession
from app.errors import InvalidError, NotFoundError
from app.settings import Settings
from tests.factories.rows import make_user

GOOD = "correct horse battery"


@pytest.fixture
def ada(db: Session) -> User:
    return service.create_user(db, email=" Ada@Example.org ", password=GOOD, name=" Ada  Lovelace ")


def sign_in(
    db: Session, password: str = GOOD, *, email: str = "ada@example.org", address: str | None = "10.0.0.1"
) -> User:
    return service.authenticate(db, email=email, password=password, address=address)


def fail(db: Session, times: int = 1, *, email: str = "ada@example.org", address: str | None = "10.0.0.1") -> None:
    for _ in range(times):
        with pytest.raises(service.WrongCredentialsError):
            sign_in(db, "not the password", email=email, address=address)


def note_failures(db: Session, times: int, *, email: str, address: str | None) -> None:
    """Failures without the time that hashing takes."""
    attempts = throttle.Attempts(db, account=email, address=address)
    for _ in range(times):
        attempts.failed()


def test_emails_and_names_are_stored_clean(ada: User) -> None:
    assert (ada.email, ada.name) == ("ada@example.org", "Ada Lovelace")


def test_the_password_is_stored_as_argon2id_of_the_asked_strength(ada: User) -> None:
    parameters = extract_parameters(ada.password_hash)
    assert ada.password_hash.startswith("$argon2id$")
    assert parameters.memory_cost >= 19 * 1024
    assert parameters.time_cost >= 2


@pytest.mark.parametrize(
    ("email", "password"),
    [("no-address", GOOD), ("a@b@c", GOOD), ("a b@c.d", GOOD), ("", GOOD), ("a@b.c", "too short"),
     ("a@b.c", "x" * 1025), ("long-enough@b.c", "Long-Enough@b.c"), ("a@b.c\n", "short"),
     *(("annabel@b.c", weak) for weak in (" " * 10, "1234567890", "password12", "qwertyuiop", "annabel@b.c1"))],
)  # fmt: skip
def test_what_cannot_be_a_user(db: Session, email: str, password: str) -> None:
    with pytest.raises(InvalidError) as refused:
        service.create_user(db, email=email, password=password)
    assert refused.value.extra["field"] in ("email", "password")
    assert password not in str(refused.value) or password == ""


def test_an_email_is_taken_whatever_its_case(db: Session, ada: User) -> None:
    with pytest.raises(service.EmailTakenError):
        service.create_user(db, email="ADA@example.org", password=GOOD)
    with pytest.raises(IntegrityError):
        make_user(db, email="ADA@example.org")


def test_signing_in(db: Session, ada: User) -> None:
    assert sign_in(db).id == ada.id
    assert sign_in(db, email=" ADA@Example.ORG").id == ada.id


def test_unknown_wrong_and_deactivated_are_answered_alike(db: Session, ada: User) -> None:
    def told(**options: str) -> tuple[str, str, str]:
        with pytest.raises(service.WrongCredentialsError) as refused:
            sign_in(db, **options)  # type: ignore[arg-type]
        return refused.value.code, refused.value.message, refused.value.mend

    wrong = told(password="not the password")
    assert told(email="nobody@example.org") == wrong
    service.set_site_admin(db, make_user(db), True)
    service.set_active(db, ada, False)
    assert told(password=GOOD) == wrong


def test_unknown_and_wrong_take_equally_long(db: Session, ada: User) -> None:
    """Medians of the same argon2id work; a shortcut for unknown users would be many times faster."""

    def seconds(email: str) -> float:
        times = []
        for number in range(4):
            began = time.process_time()
            fail(db, email=email, address=f"10.0.1.{number}")
            times.append(time.process_time() - began)
        return statistics.median(times)

    fail(db, email="warm-up@example.org")
    unknown, wrong = seconds("nobody@example.org"), seconds("ada@example.org")
    assert 0.4 < unknown / wrong < 2.5


def test_guessing_one_account_from_one_address_is_stopped(db: Session, ada: User) -> None:
    fail(db, throttle.PAIR_LIMIT)
    with pytest.raises(TooManyAttemptsError) as refused:
        sign_in(db)
    assert 0 < refused.value.extra["retry_after_seconds"] <= throttle.WINDOW.total_seconds()
    assert sign_in(db, address="10.9.9.9").id == ada.id, "a stranger must not lock her out everywhere"


def test_unknown_accounts_are_throttled_like_known_ones(db: Session) -> None:
    fail(db, throttle.PAIR_LIMIT, email="nobody@example.org")
    with pytest.raises(TooManyAttemptsError):
        sign_in(db, email="nobody@example.org")


def test_without_an_address_the_account_is_throttled_all_the_same(db: Session, ada: User) -> None:
    fail(db, throttle.PAIR_LIMIT, address=None)
    with pytest.raises(TooManyAttemptsError):
        sign_in(db, address="not-an-address")


def test_many_addresses_on_one_account(db: Session, ada: User) -> None:
    for number in range(throttle.ACCOUNT_LIMIT):
        note_failures(db, 1, email="ada@example.org", address=f"10.1.0.{number}")
    with pytest.raises(TooManyAttemptsError):
        sign_in(db, address="10.2.0.1")


@pytest.mark.parametrize(("first", "second"), [("10.3.0.1", "10.3.0.1"), ("2001:db8::1", "2001:db8::ffff:1")])
def test_many_accounts_from_one_network(db: Session, ada: User, first: str, second: str) -> None:
    for number in range(throttle.ADDRESS_LIMIT):
        note_failures(db, 1, email=f"user{number}@example.org", address=first)
    with pytest.raises(TooManyAttemptsError):
        sign_in(db, address=second)
    assert sign_in(db, address="2001:db8:0:1::1").id == ada.id


def test_failures_are_forgotten_after_a_while_and_after_success(db: Session, ada: User) -> None:
    fail(db, throttle.PAIR_LIMIT - 1)
    sign_in(db)
    fail(db, throttle.PAIR_LIMIT)
    with pytest.raises(TooManyAttemptsError):
        sign_in(db)
    db.execute(update(LoginFailure).values(at=LoginFailure.at - throttle.WINDOW))
    assert sign_in(db).id == ada.id
    db.execute(update(LoginFailure).values(at=LoginFailure.at - timedelta(days=2)))
    note_failures(db, 1, email="x", address=None)
    assert db.scalar(select(func.count()).select_from(LoginFailure)) == 1


def test_what_was_typed_is_stored_hashed(db: Session) -> None:
    fail(db, email="oops-my-password")
    stored = db.scalars(select(LoginFailure)).one()
    assert stored.account_hash == hashlib.sha256(b"oops-my-password").digest()


def test_a_burst_of_guesses_at_once_is_counted_one_by_one(fresh_engine: Engine) -> None:
    """Ten at the same moment: no more than the limit may look at the password."""
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        service.create_user(db, email="ada@example.org", password=GOOD)
    answers: list[str] = []

    def guess() -> None:
        with factory() as db:
            try:
                sign_in(db, "not the password")
            except (service.WrongCredentialsError, TooManyAttemptsError) as error:
                answers.append(error.code)
            db.commit()

    threads = [threading.Thread(target=guess) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 10
    assert answers.count("wrong_credentials") <= throttle.PAIR_LIMIT


def test_at_most_two_passwords_are_hashed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = [0], [0], threading.Lock()
    hash_ = PasswordHasher.hash

    def counted(self: PasswordHasher, password: str) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        try:
            return hash_(self, password)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(PasswordHasher, "hash", counted)
    threads = [threading.Thread(target=passwords.hash_password, args=(GOOD,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == passwords.AT_ONCE == 2


def test_whoever_waits_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.01)
    with passwords._place(), passwords._place(), pytest.raises(passwords.TooBusyError):
        passwords.hash_password(GOOD)


def test_an_old_hash_is_renewed_at_sign_in(db: Session, ada: User) -> None:
    ada.password_hash = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(GOOD)
    sign_in(db)
    assert not passwords.needs_rehash(ada.password_hash)
    assert sign_in(db).id == ada.id


def test_session_keys_are_stored_hashed_and_end(db: Session, ada: User) -> None:
    session, key = service.start_session(db, ada, days=14)
    assert len(key) >= 32
    assert session.key_hash == digest(key) != key.encode()
    assert timedelta(days=13) < session.expires_at - utcnow() <= timedelta(days=14)
    service.end_session(db, key)
    assert db.scalars(select(UserSession).where(UserSession.user_id == ada.id)).all() == []


@pytest.mark.parametrize(
    "end",
    [
        lambda db, user: service.set_password(db, user, "another horse battery"),
        lambda db, user: service.set_active(db, user, False),
        lambda db, user: service.change_password(
            db, user, current=GOOD, new="another horse battery", address="10.0.0.1"
        ),
    ],
)
def test_sign_ins_end_with_the_password_and_the_account(
    db: Session, ada: User, end: Callable[[Session, User], None]
) -> None:
    service.start_session(db, ada, days=14)
    end(db, ada)
    assert db.scalar(select(func.count()).select_from(UserSession).where(UserSession.user_id == ada.id)) == 0


def test_changing_the_password_asks_for_the_old_one(db: Session, ada: User) -> None:
    with pytest.raises(service.WrongCredentialsError):
        service.change_password(db, ada, current="wrong", new="another horse battery", address=None)
    sign_in(db)


def test_a_token_is_shown_once_and_stored_hashed(db: Session, ada: User) -> None:
    token, secret = service.create_token(db, user=ada, name="x", scopes=["votes:write", "prompts:read", "votes:write"])
    assert secret.startswith("hone_")
    assert len(secret) == 48
    assert secret[5:].isalnum()
    assert token.token_hash == hashlib.sha256(secret.encode()).digest()
    assert token.prefix == secret[:9]
    assert token.scopes == ["prompts:read", "votes:write"]


def test_tokens_that_cannot_be(db: Session, ada: User) -> None:
    for name, scopes, days in (("", ["chat"], 1), ("x", [], 1), ("x", ["everything"], 1), ("x", ["chat"], -1)):
        with pytest.raises(InvalidError):
            service.create_token(db, user=ada, name=name, scopes=scopes, expires_at=utcnow() + timedelta(days=days))


def test_only_ones_own_tokens_are_revoked(db: Session, ada: User) -> None:
    token, _ = service.create_token(db, user=ada, name="x", scopes=["chat"])
    with pytest.raises(NotFoundError):
        service.revoke_token(db, user_id=make_user(db).id, token_id=token.id)
    service.revoke_token(db, user_id=ada.id, token_id=token.id)
    first = db.get_one(ApiToken, token.id).revoked_at
    service.revoke_token(db, user_id=ada.id, token_id=token.id)
    db.expire_all()
    assert db.get_one(ApiToken, token.id).revoked_at == first


def test_the_last_site_admin_stays(db: Session) -> None:
    only = make_user(db, is_site_admin=True)
    for act in (service.set_active, service.set_site_admin):
        with pytest.raises(service.LastAdminError):
            act(db, only, False)
    second = make_user(db, is_site_admin=True)
    service.set_active(db, second, False)
    with pytest.raises(service.LastAdminError):
        service.set_site_admin(db, only, False)
    service.set_active(db, second, True)
    service.set_site_admin(db, only, False)
    assert not only.is_site_admin


def test_two_admins_cannot_unmake_each_other_at_once(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        ids = [make_user(db, is_site_admin=True).id for _ in range(2)]
    barrier = threading.Barrier(2)

    def unmake(user_id: object) -> None:
        try:
            with transaction(factory) as db:
                user = db.get_one(User, user_id)
                barrier.wait()
                service.set_site_admin(db, user, False)
        except service.LastAdminError:
            pass

    threads = [threading.Thread(target=unmake, args=(user_id,)) for user_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with transaction(factory) as db:
        assert db.scalar(select(func.count()).select_from(User).where(User.is_site_admin)) == 1


def test_the_first_admin(db: Session) -> None:
    from pydantic import SecretStr

    given = Settings(admin_email="boss@example.org", admin_password=SecretStr(GOOD))
    assert service.ensure_first_admin(db, Settings()) is None
    made = service.ensure_first_admin(db, given)
    assert made is not None
    assert made.is_site_admin
    assert service.ensure_first_admin(db, given) is None
