"""Error answers in the API's description, where they are more than ``app.web.openapi`` says of every operation."""

from typing import Any


def problem(meaning: str) -> dict[str, Any]:
    """An entry of a route's ``responses``: ``responses={409: problem("`too_few_votes`: …")}``."""
    return {
        "description": meaning,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
