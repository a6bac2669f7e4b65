"""A client of Hone's HTTP API, as small as the simulation needs: it sees what any API client sees."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx


class ApiError(RuntimeError):
    """The server refused: status, its code, and its words."""

    def __init__(self, response: httpx.Response) -> None:
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        self.status = response.status_code
        self.code = str(problem.get("code", ""))
        said = problem.get("detail") or response.text[:200]
        super().__init__(f"{response.request.method} {response.request.url.path}: {response.status_code} {said}")


@dataclass(frozen=True)
class Pair:
    """What a reviewer is shown: two texts, and no word of where they come from."""

    id: str
    a: str
    b: str


class Client:
    """Calls on behalf of one token."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(180, connect=5),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """The answer's JSON, or None for 204. A server that wants fewer requests a minute is obeyed.

        Raises:
            ApiError: any other status of 400 and above, or still too many requests after a minute.
        """
        last = time.monotonic() + 60
        while True:
            response = self._http.request(method, path, **kwargs)
            wait = response.headers.get("retry-after", "")
            if response.status_code != 429 or not wait.isdigit() or time.monotonic() + int(wait) > last:
                break
            time.sleep(int(wait))
        if response.status_code >= 400:
            raise ApiError(response)
        return None if response.status_code == 204 else response.json()

    def projects(self) -> list[dict[str, Any]]:
        """The projects of the token's owner."""
        return list(self.call("GET", "/api/v1/projects")["items"])

    def held_out_prompts(self, slug: str) -> Iterator[list[dict[str, str]]]:
        """The conversations that no round trains on."""
        cursor = None
        while True:
            params = {"held_out": "true", "limit": "100"} | ({"cursor": cursor} if cursor else {})
            page = self.call("GET", f"/api/v1/projects/{slug}/prompts", params=params)
            for prompt in page["items"]:
                yield prompt["messages"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def next_pair(self, slug: str) -> Pair | None:
        """Lease the next comparison, or None when none is ready."""
        found = self.call("POST", f"/api/v1/projects/{slug}/comparisons/next")
        return None if found is None else Pair(found["id"], found["a"], found["b"])

    def vote(self, pair: Pair, choice: str) -> None:
        """Record a choice; sent again with the same key if the connection fails."""
        key = str(uuid4())
        for attempt in range(5):
            try:
                self.call(
                    "POST",
                    f"/api/v1/comparisons/{pair.id}/votes",
                    json={"choice": choice},
                    headers={"Idempotency-Key": key},
                )
            except httpx.TransportError:
                if attempt == 4:
                    raise
                time.sleep(0.2 * 2**attempt)
            else:
                return

    def start_round(self, slug: str) -> str:
        """Ask for a round; its id."""
        return str(self.call("POST", f"/api/v1/projects/{slug}/rounds")["id"])

    def round(self, round_id: str) -> dict[str, Any]:
        """A round as it stands."""
        return dict(self.call("GET", f"/api/v1/rounds/{round_id}"))

    def versions(self, slug: str) -> list[dict[str, Any]]:
        """All versions of a project."""
        return list(self.call("GET", f"/api/v1/projects/{slug}/versions")["items"])

    def promote(self, version_id: str) -> None:
        """Make a version the current one."""
        self.call("POST", f"/api/v1/versions/{version_id}/promote")

    def chat(self, model: str, messages: list[dict[str, str]], n: int, seed: int) -> list[str]:
        """``n`` answers of a version (model is ``slug@number``)."""
        body = {"model": model, "messages": messages, "n": n, "seed": seed}
        return [
            choice["message"]["content"] for choice in self.call("POST", "/v1/chat/completions", json=body)["choices"]
        ]
