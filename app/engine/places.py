"""Which engine serves which version: one address, or several that hold different models. No I/O."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.engine.errors import EngineNonsense, EngineRefused, EngineUnavailable

EngineKind = Literal["vllm", "sglang"]
"""What speaks at the addresses; ``vllm`` is Hone's own engine, too."""

KNOWN_SECONDS = 5.0
"""A server may be started again with another model: what it said it serves is not believed for longer."""


@dataclass(frozen=True, slots=True)
class Card:
    """A model that a server says it serves; ``parent`` is what an adapter stands on, ``owner`` who made the server."""

    name: str
    parent: str | None = None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where to ask for a version (a place in the list of addresses), and what it is called there."""

    place: int
    name: str


def addresses(text: str) -> list[str]:
    """The addresses of HONE_ENGINE_URL: one, or several with commas between them."""
    return [url.strip().rstrip("/") for url in text.split(",") if url.strip()]


def read_cards(data: dict[str, Any]) -> list[Card]:
    """The models in an answer of ``GET /v1/models``.

    Raises:
        EngineNonsense: it holds no list.
    """
    entries = data.get("data")
    if not isinstance(entries, list):
        raise EngineNonsense("GET /v1/models: no list of models")
    return [
        Card(
            entry["id"],
            entry["parent"] if isinstance(entry.get("parent"), str) else None,
            str(entry.get("owned_by") or ""),
        )
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]


class Places:
    """What the servers at some addresses said they serve. May be used from several threads."""

    def __init__(self, text: str, kind: EngineKind, clock: Callable[[], float] = time.monotonic) -> None:
        """``text`` as in HONE_ENGINE_URL."""
        self.urls = addresses(text) or [""]
        self.kind = kind
        self._clock = clock
        self._known: tuple[float, dict[str, Route]] = (0.0, {})

    @property
    def must_look(self) -> bool:
        """Whether it has to be known who serves a version before it is asked for.

        SGLang answers a request for a model it does not know from the one it has, without a word.
        """
        return len(self.urls) > 1 or self.kind == "sglang"

    def known(self, model: str) -> Route | None:
        """Who serves ``model``, as far as that was heard lately."""
        if not self.must_look:
            return Route(0, model)
        until, routes = self._known
        return routes.get(model) if self._clock() < until else None

    def forget(self) -> None:
        """Look again before the next request."""
        self._known = (0.0, {})

    def learn(self, listings: Sequence[list[Card] | EngineUnavailable]) -> None:
        """Take in what each address answered; where two serve the same, the first one is asked."""
        routes: dict[str, Route] = {}
        for place, cards in enumerate(listings):
            for card in cards if isinstance(cards, list) else ():
                adapter = self.kind == "sglang" and card.parent is not None
                routes.setdefault(card.name, Route(place, f"{card.parent}:{card.name}" if adapter else card.name))
        self._known = (self._clock() + KNOWN_SECONDS, routes)

    def find(self, model: str, listings: Sequence[list[Card] | EngineUnavailable]) -> Route:
        """Who serves ``model``, of those who have just been asked.

        Raises:
            EngineUnavailable: nobody who answered; but not everybody did.
            EngineRefused: nobody.
        """
        self.learn(listings)
        route = self._known[1].get(model)
        if route is not None:
            return route
        for answer in listings:
            if isinstance(answer, EngineUnavailable):
                raise answer
        raise EngineRefused("model_not_found", f"none of {', '.join(self.urls)} serves {model}")

    def home(self, base: str | None, listings: Sequence[list[Card] | EngineUnavailable]) -> int:
        """Where an adapter on ``base`` belongs; with one address, there.

        Raises:
            EngineUnavailable: not everybody answered.
            EngineRefused: nobody serves its base, or there is none, for it is a full model.
        """
        if base is not None:
            return self.find(base, listings).place
        raise EngineRefused("not_an_adapter", "a full model is served only from its server's start")
