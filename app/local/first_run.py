"""What a new installation needs before its first page: somebody who can sign in, and in the demo something to see."""

from dataclasses import dataclass, field

from sqlalchemy import Engine, exists, select

from app.accounts import service as accounts
from app.db.session import make_session_factory, transaction
from app.db.tables import User
from app.local import demo
from app.local.demo import Login
from app.settings import Settings


@dataclass(frozen=True)
class FirstRun:
    """What to tell the person in front of the terminal."""

    logins: list[Login] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def prepare(settings: Settings, engine: Engine, *, with_demo: bool) -> FirstRun:
    """Make the demo or the first admin if asked for and missing; say how to go on otherwise.

    Raises:
        DomainError: HONE_ADMIN_EMAIL or HONE_ADMIN_PASSWORD cannot be used.
    """
    if with_demo:
        logins = demo.bootstrap(engine)
        return FirstRun(logins, [] if logins else ["The demo project was there already; its logins are unchanged."])
    with transaction(make_session_factory(engine)) as db:
        admin = accounts.ensure_first_admin(db, settings)
        if admin is not None:
            return FirstRun(notes=[f"The first admin is {admin.email}, with HONE_ADMIN_PASSWORD."])
        if db.scalar(select(exists().where(User.is_active))):
            return FirstRun()
    create = f"hone users create --admin --email YOU@EXAMPLE.ORG --data {settings.data}"
    return FirstRun(notes=["There is no user yet. In another terminal:", create])
