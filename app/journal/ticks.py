"""When a worker last looked for what is due: the one sign that beat, Redis and worker all live."""

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Tick


def record(db: Session) -> None:
    """A tick begins now."""
    now = func.clock_timestamp()
    db.execute(insert(Tick).values(id=1, at=now).on_conflict_do_update(index_elements=[Tick.id], set_={"at": now}))
