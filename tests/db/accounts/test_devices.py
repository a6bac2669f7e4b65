"""Whoever guesses a password locks out strangers, never the owner in a browser that they have signed in with."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from app.accounts import devices, service, throttle
from app.accounts.keys import digest
from app.accounts.throttle import TooManyAttemptsError
from app.db.session import make_session_factory, transaction
from app.db.tables import Device, LoginFailure, User
from tests.factories.threads import at_once

GOOD = "correct horse battery"
HOME = "10.0.0.1"


@pytest.fixture
def ada(db: Session) -> User:
    return service.create_user(db, email="ada@example.org", password=GOOD)


@pytest.fixture
def eve(db: Session) -> User:
    return service.create_user(db, email="eve@example.org", password=GOOD)


def sign_in(db: Session, user: User, key: str | None = None, *, address: str = HOME) -> str:
    """The key that the browser has afterwards."""
    service.authenticate(db, email=user.email, password=GOOD, address=address, device_key=key)
    return devices.remember_device(db, user, key=key)


def fail(db: Session, user: User, times: int, key: str | None = None, *, address: str = HOME) -> None:
    for _ in range(times):
        with pytest.raises(service.WrongCredentialsError):
            service.authenticate(db, email=user.email, password="not it", address=address, device_key=key)


def flood(db: Session, email: str, times: int = throttle.ACCOUNT_LIMIT, *, network: str = "10.1.0") -> None:
    """Guesses from as many addresses, without the time that hashing takes."""
    for number in range(times):
        throttle.Attempts(db, account=email, address=f"{network}.{number}").failed()


def test_guessing_from_many_addresses_locks_out_strangers_and_not_the_owner(db: Session, ada: User) -> None:
    laptop = sign_in(db, ada)
    flood(db, ada.email)
    with pytest.raises(TooManyAttemptsError):
        sign_in(db, ada, address="10.2.0.1")
    assert sign_in(db, ada, laptop, address="10.2.0.1")


def test_nor_do_guesses_from_the_same_office(db: Session, ada: User) -> None:
    laptop = sign_in(db, ada)
    fail(db, ada, throttle.PAIR_LIMIT)
    for number in range(throttle.ADDRESS_LIMIT):
        throttle.Attempts(db, account=f"user{number}@example.org", address=HOME).failed()
    with pytest.raises(TooManyAttemptsError):
        sign_in(db, ada)
    assert sign_in(db, ada, laptop)


def test_a_known_browser_has_its_own_few_guesses(db: Session, ada: User) -> None:
    """Stolen, or somebody else sits there: as few as from one address, and nobody else is locked out by them."""
    laptop, phone = sign_in(db, ada), sign_in(db, ada)
    fail(db, ada, throttle.DEVICE_LIMIT, laptop)
    with pytest.raises(TooManyAttemptsError) as refused:
        sign_in(db, ada, laptop, address="10.9.9.9")
    assert 0 < refused.value.extra["retry_after_seconds"] <= throttle.WINDOW.total_seconds()
    assert sign_in(db, ada, phone)
    assert sign_in(db, ada), "as a stranger from the same address"
    db.execute(update(LoginFailure).values(at=LoginFailure.at - throttle.WINDOW))
    assert sign_in(db, ada, laptop)


def test_signing_in_as_oneself_gives_no_further_guesses_at_somebody_else(db: Session, ada: User, eve: User) -> None:
    """A browser of two: its key changes with each sign-in, the count of failures stays."""
    shared = sign_in(db, eve, sign_in(db, ada))
    fail(db, ada, throttle.DEVICE_LIMIT - 1, shared)
    shared = sign_in(db, eve, shared)
    fail(db, ada, 1, shared)
    with pytest.raises(TooManyAttemptsError):
        sign_in(db, ada, sign_in(db, eve, shared))


def test_a_browser_is_known_for_those_who_signed_in_there_alone(db: Session, ada: User, eve: User) -> None:
    hers = sign_in(db, eve)
    flood(db, ada.email)
    for key in (hers, "made up", ""):
        with pytest.raises(TooManyAttemptsError):
            sign_in(db, ada, key)


def test_a_key_that_was_planted_is_worth_nothing_after_the_sign_in(db: Session, ada: User, eve: User) -> None:
    planted = sign_in(db, eve)
    assert sign_in(db, ada, planted) != planted
    flood(db, ada.email)
    with pytest.raises(TooManyAttemptsError):
        sign_in(db, ada, planted)


def test_a_new_password_of_ones_own_forgets_the_other_browsers(db: Session, ada: User) -> None:
    stolen, mine = sign_in(db, ada), sign_in(db, ada)
    new = "another horse battery"
    service.change_password(db, ada, current=GOOD, new=new, address=HOME, device_key=mine)
    assert devices.known_device(db, key=mine, account=ada.email)
    assert not devices.known_device(db, key=stolen, account=ada.email)
    service.change_password(db, ada, current=new, new=GOOD, address=HOME)
    assert not devices.known_device(db, key=mine, account=ada.email)


def test_a_new_password_from_an_admin_lets_in_at_once(db: Session, ada: User) -> None:
    laptop = sign_in(db, ada)
    flood(db, ada.email)
    fail(db, ada, throttle.DEVICE_LIMIT, laptop)
    service.set_password(db, ada, "another horse battery")
    for key in (None, laptop):
        assert service.authenticate(
            db, email=ada.email, password="another horse battery", address="10.2.0.1", device_key=key
        )


def test_old_browsers_are_forgotten(db: Session, ada: User) -> None:
    old = sign_in(db, ada)
    db.execute(update(Device).values(used_at=Device.used_at - devices.KEPT - timedelta(minutes=1)))
    assert not devices.known_device(db, key=old, account=ada.email)
    newest = [devices.remember_device(db, ada, key=None) for _ in range(devices.MAX_DEVICES + 1)][1:]
    assert set(db.scalars(select(Device.key_hash))) == {digest(key) for key in newest}
    assert newest[-1].encode() not in db.scalars(select(Device.key_hash)).all(), "keys are stored hashed"


def test_guesses_in_a_known_browser_sent_at_once_are_counted_one_by_one(fresh_engine: Engine) -> None:
    factory = make_session_factory(fresh_engine)
    with transaction(factory) as db:
        ada = service.create_user(db, email="ada@example.org", password=GOOD)
        key = devices.remember_device(db, ada, key=None)

    def guess() -> str:
        with factory() as db:
            try:
                service.authenticate(db, email="ada@example.org", password="not it", address=HOME, device_key=key)
            except (service.WrongCredentialsError, TooManyAttemptsError) as error:
                db.commit()
                return error.code
        return "let in"

    answers = at_once(*[guess] * 10)
    assert set(answers) == {"wrong_credentials", "too_many_attempts"}
    assert answers.count("wrong_credentials") <= throttle.DEVICE_LIMIT
    with factory() as db:
        assert (db.scalar(select(func.count()).select_from(LoginFailure)) or 0) <= throttle.DEVICE_LIMIT
