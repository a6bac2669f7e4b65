"""Sign-ins of many at once: no network keeps another one waiting, and one that asks too much is told when to come."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from app.accounts import passwords
from app.accounts.passwords import TooBusyError
from app.accounts.service import create_user
from app.accounts.throttle import network_of
from app.accounts.turns import RETRY_SECONDS, TooManyAtOnceError, Turns
from app.db.session import transaction
from tests import aside
from tests.fixtures.portal import Portal

PASSWORD = "correct horse battery"


class Desk:
    """Turns that people take, and who has had one, in order."""

    def __init__(self, **limits: Any) -> None:
        self.turns = Turns(**limits)
        self.served: list[str] = []
        self.most = 0
        self._under_way: list[str] = []

    async def come(self, who: str, *, stays: float = 0.002) -> None:
        """``who``: network and a number."""
        network = who.partition("/")[0]
        async with self.turns.turn(network):
            self._under_way.append(network)
            self.most = max(self.most, len(self._under_way))
            assert len(set(self._under_way)) == len(self._under_way), "two of one network"
            self.served.append(who)
            try:
                await asyncio.sleep(stays)
            finally:
                self._under_way.remove(network)


def test_a_network_that_asks_for_much_does_not_keep_another_one_waiting() -> None:
    async def day(desk: Desk) -> None:
        many = [asyncio.create_task(desk.come(f"a/{number}")) for number in range(20)]
        await asyncio.sleep(0.005)
        await desk.come("b/0")
        assert len(desk.served) < 12, "it came at once, not behind the twenty"
        await asyncio.gather(*many)

    desk = Desk()
    aside.run(day(desk))
    assert [who for who in desk.served if who != "b/0"] == [f"a/{number}" for number in range(20)], "in their order"


def test_networks_are_served_one_after_the_other() -> None:
    async def day(desk: Desk) -> None:
        await asyncio.gather(*(desk.come(f"{network}/{number}") for network in "abc" for number in range(3)))

    desk = Desk(at_once=1)
    aside.run(day(desk))
    assert desk.served == [f"{network}/{number}" for number in range(3) for network in "abc"]
    assert desk.most == 1


def test_more_than_may_wait_are_told_when_to_come_again() -> None:
    async def day(desk: Desk) -> None:
        came = await asyncio.gather(*(desk.come(f"a/{number}") for number in range(5)), return_exceptions=True)
        refused = [error for error in came if error is not None]
        assert [type(error) for error in refused] == [TooManyAtOnceError] * 2
        assert isinstance(refused[0], TooManyAtOnceError)
        assert refused[0].extra["retry_after_seconds"] == RETRY_SECONDS
        await desk.come("a/again")

    desk = Desk(waiting=2)
    aside.run(day(desk))
    assert desk.served == ["a/0", "a/1", "a/2", "a/again"]


def test_whoever_waits_in_vain_or_goes_away_leaves_nothing_behind() -> None:
    async def day(desk: Desk) -> None:
        first = asyncio.create_task(desk.come("a/0", stays=0.2))
        await asyncio.sleep(0)
        gone = asyncio.create_task(desk.come("a/gone"))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(TooBusyError) as told:
            await desk.come("a/late")
        assert told.value.extra["retry_after_seconds"] > 0
        await first
        await asyncio.wait_for(desk.come("a/next"), 1)
        with pytest.raises(asyncio.CancelledError):
            await gone

    desk = Desk(wait_seconds=0.05)
    aside.run(day(desk))
    assert desk.served == ["a/0", "a/next"]


def test_a_turn_that_comes_as_its_owner_leaves_goes_to_the_next() -> None:
    async def day(desk: Desk) -> None:
        first = asyncio.create_task(desk.come("a/0", stays=0))
        await asyncio.sleep(0)
        leaves, next_one = asyncio.create_task(desk.come("a/1")), asyncio.create_task(desk.come("a/2"))
        await first
        leaves.cancel()  # its turn was given, and it has not run since
        await asyncio.wait_for(next_one, 1)
        await asyncio.wait([leaves])

    desk = Desk()
    aside.run(day(desk))
    assert desk.served[0] == "a/0"
    assert desk.served[-1] == "a/2"


@pytest.mark.parametrize(
    ("address", "network"),
    [("10.3.0.1", "10.3.0.1/32"), ("2001:db8::1", "2001:db8::/64"), ("2001:db8::ffff:1", "2001:db8::/64"),
     ("::ffff:10.3.0.1", "10.3.0.1/32"), ("fe80::1%eth0", "fe80::/64"), ("testclient", ""), ("", ""), (None, "")],
)  # fmt: skip
def test_which_addresses_are_one(address: str | None, network: str) -> None:
    assert network_of(address) == network


class _Stuck:
    """Passwords whose check takes as long as the test wants."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.over = threading.Event()

    def verify(self, _hash: str | None, password: str) -> bool:
        if password == PASSWORD:
            return True
        self.asked.release()
        assert self.over.wait(20)
        return False


def test_an_address_that_tries_many_accounts_keeps_nobody_else_out(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty guesses at fifty accounts from one address, none of which ends: somebody elsewhere is let in meanwhile,
    pages are answered, and those of the fifty that cannot wait are told when to come."""
    stuck = _Stuck()
    monkeypatch.setattr(passwords, "verify_password", stuck.verify)
    with transaction(portal.factory) as db:
        create_user(db, email="ada@example.org", password=PASSWORD)

    async def come(address: str, email: str, password: str) -> httpx.Response:
        transport = httpx.ASGITransport(portal.app, client=(address, 1))
        cookies, data = {"hone_form": "x" * 24}, {"csrf_token": "x" * 24, "email": email, "password": password}
        async with httpx.AsyncClient(transport=transport, base_url="http://hone", cookies=cookies) as client:
            return await client.post("/login", data=data)

    async def day() -> list[httpx.Response]:
        guesses: list[Coroutine[Any, Any, httpx.Response]] = [
            come("10.0.0.1", f"user{number}@example.org", "not the password") for number in range(50)
        ]
        tasks = [asyncio.create_task(guess) for guess in guesses]
        try:
            assert await asyncio.to_thread(stuck.asked.acquire, timeout=10)
            answer = await asyncio.wait_for(come("10.0.0.2", "ada@example.org", PASSWORD), 5)
            assert answer.status_code == 303
            assert not stuck.asked.acquire(blocking=False), "one of the fifty is looked at, and no second one"
        finally:
            stuck.over.set()
        return await asyncio.gather(*tasks)

    answers = aside.run(day())
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert len(refused) == 50 - 41
    assert refused[0].headers["retry-after"] == str(RETRY_SECONDS)
    assert "Try again in 5 seconds" in refused[0].text
