"""Closed-loop reviewers: each asks, votes, and votes again as soon as it is answered. The load of ``bench/voting.py``.

A process of its own, on raw asyncio transports with one kept connection for each reviewer, so that it measures the
server and not itself: about 0.05 ms of a core for each request. Whoever starts it sends jobs as JSON lines and reads
a JSON line for each: ``sign_in`` (through the sign-in form and the account page, with their CSRF tokens), then
``html``, ``api`` or ``floor`` for so many reviewers and seconds.
"""

import asyncio
import json
import random
import re
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus
from uuid import uuid4

import uvloop

WARM_UP_SECONDS = 1.5
"""Votes before that are stored and checked like any, and timed by nobody."""
RESEND_EVERY = 50
"""Each so many-th vote is sent twice, as a double click or a lost answer has it; it must count once."""
CHOICES = ("a", "b", "tie", "both_bad")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_COOKIE = re.compile(rb"\r\nset-cookie: *([^=\r\n]+)=([^;\r\n]*)", re.IGNORECASE)
_CSRF = re.compile(rb'name="csrf_token" value="([^"]+)"')
_BALLOT = re.compile(rb'name="lease" value="([0-9a-f-]{36})">\s*<input type="hidden" name="key" value="([^"]+)"')
_SECRET = re.compile(rb"hone_[0-9A-Za-z]{43}")


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time. Understands what the server sends: bodies with a length."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self._transport: Any = None
        self._needed = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Collect until the answer is whole."""
        self._buffer += data
        if self._needed < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._buffer, 0, end)
            self._needed = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) >= self._needed and self._waiter is not None:
            head, _, body = self._buffer.partition(b"\r\n\r\n")
            self._buffer, self._needed = b"", -1
            self._waiter.set_result((int(head[9:12]), head, body))

    async def send(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


@dataclass
class Run:
    """What the reviewers of one job saw."""

    until: float = 0.0
    timed_from: float = 0.0
    requests: int = 0
    reviews: int = 0
    milliseconds: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """Idempotency keys of all acknowledged votes."""
    resent: int = 0
    errors: list[str] = field(default_factory=list)
    dry: bool = False


class Reviewer:
    """One person with a browser, or one program with a token."""

    def __init__(self, host: str, port: int, email: str, password: str) -> None:
        self._address = (host, port)
        self._host = f"{host}:{port}"
        self._email, self._password = email, password
        self._cookies: dict[str, str] = {}
        self._csrf = ""
        self._token = ""
        self._connection: Connection | None = None
        self._rng = random.Random(email)

    async def connect(self) -> None:
        """A new connection."""
        _, protocol = await asyncio.get_running_loop().create_connection(Connection, *self._address)
        self._connection = protocol

    def hang_up(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()

    async def sign_in(self) -> None:
        """The sign-in form, then a token of the account page. Raises RuntimeError if either does not work."""
        page = await self._page("GET", "/login")
        login = {"csrf_token": _found(_CSRF, page), "email": self._email, "password": self._password, "next": "/"}
        await self._page("POST", "/login", login, expect=303)
        self._csrf = _found(_CSRF, await self._page("GET", "/account"))
        made = await self._page(
            "POST",
            "/account/tokens",
            {"csrf_token": self._csrf, "name": "bench", "scopes": "votes:write", "days": "30"},
        )
        secret = _SECRET.search(made)
        if secret is None:
            raise RuntimeError("the account page shows no new token")
        self._token = secret[0].decode()

    async def review_pages(self, run: Run, slug: str) -> None:
        """As the page's script does: one pair in hand and one kept ready, so that a vote is one request."""
        path = f"/p/{slug}/compare"
        in_hand = _BALLOT.search(await self._page("GET", path))
        if in_hand is None:
            run.dry = True
            return
        following = _BALLOT.search(
            await self._page("POST", f"{path}/ahead", {"holding": in_hand[1].decode()}, script=True)
        )
        while in_hand is not None and following is not None and time.perf_counter() < run.until:
            vote = {
                "lease": in_hand[1].decode(),
                "key": in_hand[2].decode(),
                "seconds": "1.5",
                "choice": self._rng.choice(CHOICES),
                "showing": following[1].decode(),
                "showing_for": "0.1",
            }
            request = self._request("POST", path, vote, script=True)
            status, _, body = await self._timed(run, request, reviews=1)
            if status != 200:
                run.errors.append(f"{status}: {body[:300]!r}")
                return
            run.keys.append(vote["key"])
            after = _BALLOT.search(body)
            if len(run.keys) % RESEND_EVERY == 0:
                run.resent += 1
                again = _BALLOT.search((await self._send(request))[2])
                if (again and again[1]) != (after and after[1]):
                    run.errors.append("a vote that was sent again was answered with another pair")
            in_hand, following = following, after
        run.dry = run.dry or time.perf_counter() < run.until

    async def review_api(self, run: Run, slug: str) -> None:
        """Take a pair, vote on it: two requests for each review."""
        take = self._request("POST", f"/api/v1/projects/{slug}/comparisons/next", bearer=True)
        while time.perf_counter() < run.until:
            status, _, body = await self._timed(run, take)
            if status == 204:
                run.dry = True
                return
            if status != 200:
                run.errors.append(f"{status}: {body[:300]!r}")
                return
            key = str(uuid4())
            request = self._request(
                "POST",
                f"/api/v1/comparisons/{json.loads(body)['id']}/votes",
                json.dumps({"choice": self._rng.choice(CHOICES), "seconds": 1.5}),
                bearer=True,
                key=key,
            )
            status, _, body = await self._timed(run, request, reviews=1)
            if status != 201:
                run.errors.append(f"{status}: {body[:300]!r}")
                return
            run.keys.append(key)
            if len(run.keys) % RESEND_EVERY == 0:
                run.resent += 1
                status, head, again = await self._send(request)
                if status != 201 or again != body or b"idempotency-replayed: true" not in head.lower():
                    run.errors.append(f"a vote that was sent again was answered with {status}: {again[:300]!r}")

    async def review_floor(self, run: Run, _slug: str) -> None:
        """The bare server: one request, one SELECT, one INSERT."""
        while time.perf_counter() < run.until:
            body = json.dumps({"pair": self._rng.randrange(1, 1000), "choice": self._rng.choice(CHOICES)})
            status, _, answer = await self._timed(run, self._request("POST", "/vote", body), reviews=1)
            if status != 200:
                run.errors.append(f"{status}: {answer[:300]!r}")
                return

    async def _timed(self, run: Run, request: bytes, *, reviews: int = 0) -> tuple[int, bytes, bytes]:
        began = time.perf_counter()
        answer = await self._send(request)
        ended = time.perf_counter()
        if run.timed_from <= began and ended <= run.until:
            run.milliseconds.append((ended - began) * 1000)
            run.requests += 1
            run.reviews += reviews
        return answer

    async def _send(self, request: bytes) -> tuple[int, bytes, bytes]:
        if self._connection is None:
            raise RuntimeError("connect first")
        return await self._connection.send(request)

    async def _page(
        self, method: str, path: str, fields: dict[str, str] | None = None, *, script: bool = False, expect: int = 200
    ) -> bytes:
        status, head, body = await self._send(self._request(method, path, fields, script=script))
        for name, value in _COOKIE.findall(head):
            self._cookies[name.decode()] = value.decode()
        if status != expect:
            raise RuntimeError(f"{method} {path}: {status}, not {expect}: {body[:500]!r}")
        return body

    def _request(
        self,
        method: str,
        path: str,
        body: dict[str, str] | str | None = None,
        *,
        script: bool = False,
        bearer: bool = False,
        key: str | None = None,
    ) -> bytes:
        """The request as bytes: a form of the page, a fragment for its script, or a call of the API."""
        sent = "&".join(f"{n}={quote_plus(v)}" for n, v in body.items()) if isinstance(body, dict) else body or ""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(sent.encode())}"]
        if bearer:
            lines.append(f"Authorization: Bearer {self._token}")
        elif self._cookies:
            lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in self._cookies.items()))
            lines += [f"Origin: http://{self._host}", "Sec-Fetch-Site: same-origin"]
        if script:
            lines += ["HX-Request: true", f"HX-Current-URL: http://{self._host}{path}", f"X-CSRF-Token: {self._csrf}"]
        if key:
            lines.append(f"Idempotency-Key: {key}")
        kind = "application/x-www-form-urlencoded" if isinstance(body, dict) else "application/json"
        lines.append(f"Content-Type: {kind}")
        return ("\r\n".join(lines) + "\r\n\r\n" + sent).encode()


def _found(pattern: re.Pattern[bytes], page: bytes) -> str:
    match = pattern.search(page)
    if match is None:
        raise RuntimeError(f"the page has no {pattern.pattern!r}")
    return match[1].decode()


class Crowd:
    """All reviewers, kept signed in from job to job."""

    def __init__(self) -> None:
        self._reviewers: list[Reviewer] = []

    async def sign_in(self, job: dict[str, Any]) -> dict[str, Any]:
        """Everybody, a few at a time."""
        at_once = asyncio.Semaphore(4)
        self._reviewers = [Reviewer(job["host"], job["port"], email, job["password"]) for email in job["emails"]]

        async def one(reviewer: Reviewer) -> None:
            async with at_once:
                await reviewer.connect()
                await reviewer.sign_in()
                reviewer.hang_up()

        began = time.perf_counter()
        await asyncio.gather(*map(one, self._reviewers))
        return {"seconds": time.perf_counter() - began}

    async def review(self, job: dict[str, Any]) -> dict[str, Any]:
        """So many reviewers for so many seconds."""
        if job["path"] == "floor":
            people = [Reviewer(job["host"], job["port"], f"{n}", "") for n in range(job["reviewers"])]
        else:
            people = self._reviewers[: job["reviewers"]]
        await asyncio.gather(*(person.connect() for person in people))
        loops: dict[str, Callable[[Reviewer], Callable[[Run, str], Awaitable[None]]]] = {
            "html": lambda person: person.review_pages,
            "api": lambda person: person.review_api,
            "floor": lambda person: person.review_floor,
        }
        now = time.perf_counter()
        run = Run(timed_from=now + WARM_UP_SECONDS, until=now + WARM_UP_SECONDS + job["seconds"])
        used = _cpu_seconds()
        began = time.perf_counter()
        outcomes = await asyncio.gather(
            *(loops[job["path"]](person)(run, job["slug"]) for person in people), return_exceptions=True
        )
        run.errors += [f"{type(outcome).__name__}: {outcome}" for outcome in outcomes if isinstance(outcome, Exception)]
        took = time.perf_counter() - began
        for person in people:
            person.hang_up()
        return {
            "requests": run.requests,
            "reviews": run.reviews,
            "milliseconds": run.milliseconds,
            "keys": run.keys,
            "resent": run.resent,
            "errors": run.errors,
            "dry": run.dry,
            "cpu_seconds": _cpu_seconds() - used,
            "wall_seconds": took,
        }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Serve jobs until the other side closes the pipe."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        crowd = Crowd()
        for line in sys.stdin:
            job = json.loads(line)
            work = crowd.sign_in(job) if job["path"] == "sign_in" else crowd.review(job)
            print(json.dumps(runner.run(work)), flush=True)


if __name__ == "__main__":
    main()
