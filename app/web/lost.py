"""Where somebody is who gets an error in place of a page: what its header shows then, asked for anew.

The request's own transaction is gone, and where no route was found nobody has asked yet whose request it is.
"""

import logging
from collections.abc import Mapping
from typing import Any

from anyio import from_thread
from fastapi import Request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.db.session import transaction
from app.web.deps import Place

log = logging.getLogger("hone.web")


def surroundings(request: Request) -> Mapping[str, Any]:
    """What ``app.state.lost_context`` says of the request; nothing where the database does not answer.

    Called in a thread of the server's, as all answers to errors are made.
    """
    state = request.app.state
    place = Place(state.database_places)
    found: dict[str, Any] = {}
    try:
        from_thread.run(place.take)
        with transaction(state.session_factory) as db:
            for provide in state.lost_context:
                found |= provide(request, db)
    except (DBAPIError, PoolTimeout) as error:
        log.warning("the page of an error has no way on: %s", error)
        return {}
    finally:
        from_thread.run_sync(place.give_back)
    return found
