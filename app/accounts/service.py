"""Users, their sign-ins and their tokens: the rules and the writes."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, exists, func, select, text, update
from sqlalchemy.orm import Session

from app.accounts import devices, keys, passwords, queries, throttle
from app.accounts.scopes import KEEPS, SCOPES
from app.db.base import utcnow
from app.db.tables import ApiToken, User, UserSession
from app.errors import ConflictError, DomainError, InvalidError, NotFoundError
from app.language import LANGUAGES, _
from app.settings import Settings

_EMAIL = re.compile(r"[^@\s,;<>\"]{1,64}@[^@\s,;<>\"]{1,255}")
_MAX_NAME_CHARS = 120
MAX_TOKENS = 100
"""Of one person, at a time: each has limits of its own for what it asks of models."""
_FIRST_ADMIN_LOCK = 0x686F6E65  # "hone"


class WrongCredentialsError(DomainError):
    """Unknown, wrong or deactivated: the answer does not tell which."""

    code = "wrong_credentials"
    status = 401
    title = _("Email or password is not right")


class EmailTakenError(ConflictError):
    """Somebody has this address already."""

    code = "email_taken"


class LastAdminError(ConflictError):
    """Nobody could administer this installation any more."""

    code = "last_admin"


def create_user(db: Session, *, email: str, password: str, name: str = "", is_site_admin: bool = False) -> User:
    """A new person who can sign in.

    Raises:
        InvalidError: the email is none, or the password too short.
        EmailTakenError: there is a user with this email.
    """
    email = clean_email(email)
    passwords.check_new_password(password, email=email)
    if db.scalar(select(exists().where(User.email == email))):
        raise EmailTakenError(
            _("There is a user %(email)s already.", email=email), mend=_("Choose another one."), field="email"
        )
    user = User(
        email=email,
        name=_clean_name(name, "name"),
        password_hash=passwords.hash_password(password),
        is_site_admin=is_site_admin,
    )
    db.add(user)
    db.flush()
    return user


def ensure_first_admin(db: Session, settings: Settings) -> User | None:
    """Create HONE_ADMIN_EMAIL as site admin, if there is no active user yet and both settings are set.

    Safe to call from several processes that start at the same time. Returns the user if one was made.

    Raises:
        DomainError: the settings cannot be used.
    """
    password = settings.admin_password.get_secret_value()
    if not settings.admin_email or not password:
        return None
    db.execute(select(func.pg_advisory_xact_lock(_FIRST_ADMIN_LOCK)))
    if db.scalar(select(exists().where(User.is_active))):
        return None
    return create_user(db, email=settings.admin_email, password=password, is_site_admin=True)


def authenticate(db: Session, *, email: str, password: str, address: str | None, device_key: str | None = None) -> User:
    """Who this is. Throttled per account and address; unknown and wrong look alike and take equally long.

    In a browser whose ``device_key`` says that this account has signed in there before, only its own failures count.
    A failure is written down in ``db``: commit it, although this raises.

    Raises:
        TooManyAttemptsError: without looking at the password.
        WrongCredentialsError: unknown, wrong or deactivated.
    """
    account = email.strip().lower()
    device_id = devices.known_device(db, key=device_key, account=account)
    attempts = throttle.Attempts(db, account=account, address=address, device_id=device_id)
    attempts.check()
    user = db.scalar(select(User).where(User.email == account))
    hash_ = user.password_hash if user is not None and user.is_active else None
    if not passwords.verify_password(hash_, password[: passwords.MAX_CHARS + 1]) or user is None:
        attempts.failed()
        raise WrongCredentialsError(
            _("No active user has this email and this password."),
            mend=_("Check both. An admin can give you a new password."),
        )
    attempts.forget()
    if passwords.needs_rehash(user.password_hash):
        user.password_hash = passwords.hash_password(password)
        db.flush()
    return user


def start_session(db: Session, user: User, days: int) -> tuple[UserSession, str]:
    """A new sign-in: the row, and the key for the cookie, which is stored nowhere."""
    key = keys.new_session_key()
    session = UserSession(
        key_hash=keys.digest(key),
        user_id=user.id,
        csrf_token=keys.new_csrf_token(),
        expires_at=utcnow() + timedelta(days=days),
    )
    db.add(session)
    db.execute(delete(UserSession).where(UserSession.user_id == user.id, UserSession.expires_at < utcnow()))
    db.flush()
    return session, key


def end_session(db: Session, key: str) -> None:
    """Sign out: the key is worth nothing from now on."""
    db.execute(delete(UserSession).where(UserSession.key_hash == keys.digest(key)))


def set_language(db: Session, user: User, language: str) -> None:
    """In which language the user reads pages; empty: whatever their browser asks for.

    Raises:
        InvalidError: there is no such language.
    """
    if language and language not in LANGUAGES:
        raise InvalidError(
            _("There is no language %(language)s here.", language=repr(language)),
            mend=_("Choose one of these: %(tags)s.", tags=", ".join(LANGUAGES)),
        )
    user.language = language or None
    db.flush()


def set_password(db: Session, user: User, password: str, *, with_tokens: bool = False) -> None:
    """A new password; every sign-in of the user ends, and ``with_tokens`` every API token, too.

    Failures with the old one are forgotten, so that whoever was locked out can use the new one at once.

    Raises:
        InvalidError: too short, too long, or the email address.
    """
    passwords.check_new_password(password, email=user.email)
    user.password_hash = passwords.hash_password(password)
    db.execute(delete(UserSession).where(UserSession.user_id == user.id))
    throttle.forget_all(db, user.email)
    if with_tokens:
        revoke_tokens(db, user)
    db.flush()


def change_password(
    db: Session,
    user: User,
    *,
    current: str,
    new: str,
    address: str | None,
    device_key: str | None = None,
    with_tokens: bool = False,
) -> None:
    """The user's own change, for which the current password is asked again. Every sign-in ends, this one too.

    Browsers but the one of ``device_key`` are unknown from now on: somebody else may have signed in there.

    Raises:
        TooManyAttemptsError, WrongCredentialsError: about the current password; commit, although this raises.
        InvalidError: about the new one.
    """
    passwords.check_new_password(new, email=user.email)
    authenticate(db, email=user.email, password=current, address=address, device_key=device_key)
    set_password(db, user, new, with_tokens=with_tokens)
    devices.forget_devices(db, user, but_key=device_key)


def create_token(
    db: Session,
    *,
    user: User,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    keeps: str = "nothing",
    requests_per_minute: int | None = None,
    tokens_per_day: int | None = None,
) -> tuple[ApiToken, str]:
    """A key for programs: the row, and the secret, to be shown once.

    Args:
        keeps: what is kept of chats held with it, one of ``KEEPS``.
        requests_per_minute: its own limit; None: the installation's. ``tokens_per_day`` likewise.

    Raises:
        InvalidError: no name, no scope or an unknown one, an expiry in the past, limits below 1, or more tokens than
            one person may have.
    """
    _check_keeps(keeps)
    for field, value in (("requests_per_minute", requests_per_minute), ("tokens_per_day", tokens_per_day)):
        if value is not None and value < 1:
            raise InvalidError(
                _("%(field)s is %(value)s.", field=field, value=value),
                mend=_("Give at least 1, or none for the usual limit."),
                field=field,
            )
    name = _clean_name(name, "name")
    if not name:
        raise InvalidError(_("The token has no name."), mend=_("Say what it is for."), field="name")
    wanted = list(dict.fromkeys(scopes))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        told = (
            _("Unknown scopes: %(unknown)s.", unknown=", ".join(unknown)) if unknown else _("The token has no scope.")
        )
        raise InvalidError(told, mend=_("Choose among %(scopes)s.", scopes=", ".join(SCOPES)), field="scopes")
    if expires_at is not None and expires_at <= utcnow():
        raise InvalidError(
            _("The token would have expired at %(expires_at)s.", expires_at=f"{expires_at:%Y-%m-%d}"),
            field="expires_at",
        )
    live = queries.live_tokens(user.id).with_only_columns(func.count())
    if (db.scalar(live) or 0) >= MAX_TOKENS:
        raise InvalidError(
            _("You have %(most)s tokens, which is the most.", most=MAX_TOKENS),
            mend=_("Revoke those that are not used any more."),
            field="name",
        )
    secret = keys.new_token_secret()
    token = ApiToken(
        user_id=user.id,
        name=name,
        prefix=keys.visible_prefix(secret),
        token_hash=keys.digest(secret),
        scopes=[scope for scope in SCOPES if scope in wanted],
        expires_at=expires_at,
        keeps=keeps,
        requests_per_minute=requests_per_minute,
        tokens_per_day=tokens_per_day,
    )
    db.add(token)
    db.flush()
    return token, secret


def set_keeps(db: Session, *, user_id: UUID, token_id: UUID, keeps: str) -> None:
    """Change what is kept of the chats that a token of the user's holds from now on. What was kept stays.

    Raises:
        InvalidError: not one of ``KEEPS``.
        NotFoundError: no such token of this user.
    """
    _check_keeps(keeps)
    mine = update(ApiToken).where(ApiToken.id == token_id, ApiToken.user_id == user_id)
    if db.execute(mine.values(keeps=keeps).returning(ApiToken.id)).first() is None:
        raise NotFoundError(_("You have no token %(token_id)s.", token_id=token_id))


def revoke_token(db: Session, *, user_id: UUID, token_id: UUID) -> None:
    """End a token of the user's. Revoking it again changes nothing.

    Raises:
        NotFoundError: no such token of this user.
    """
    revoked = db.execute(
        update(ApiToken)
        .where(ApiToken.id == token_id, ApiToken.user_id == user_id)
        .values(revoked_at=func.coalesce(ApiToken.revoked_at, utcnow()))
        .returning(ApiToken.id)
    ).first()
    if revoked is None:
        raise NotFoundError(_("You have no token %(token_id)s.", token_id=token_id))


def revoke_tokens(db: Session, user: User) -> int:
    """End every token of somebody's; how many still worked."""
    live = update(ApiToken).where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
    return len(db.execute(live.values(revoked_at=utcnow()).returning(ApiToken.id)).all())


def get_user(db: Session, user_id: UUID) -> User:
    """
    Raises:
        NotFoundError: no such user.
    """
    user = db.get(User, user_id)
    if user is None:
        raise NotFoundError(_("There is no user %(user_id)s.", user_id=user_id))
    return user


def set_active(db: Session, user: User, active: bool) -> None:
    """Let somebody in again, or keep them out: their sign-ins end, and their tokens for good.

    Raises:
        LastAdminError: nobody could administer the installation.
    """
    if not active:
        _keep_an_admin(db, but=user)
        db.execute(delete(UserSession).where(UserSession.user_id == user.id))
        revoke_tokens(db, user)
    user.is_active = active
    db.flush()


def set_site_admin(db: Session, user: User, is_site_admin: bool) -> None:
    """Make somebody an administrator of everything, or no longer.

    Raises:
        LastAdminError: nobody could administer the installation.
    """
    if not is_site_admin:
        _keep_an_admin(db, but=user)
    user.is_site_admin = is_site_admin
    db.flush()


def _check_keeps(keeps: str) -> None:
    if keeps not in KEEPS:
        raise InvalidError(
            _("A token cannot keep %(keeps)s.", keeps=repr(keeps)),
            mend=_("Choose among %(keeps)s.", keeps=", ".join(KEEPS)),
            field="keeps",
        )


def clean_email(email: str) -> str:
    """In lower case, as it is stored.

    Raises:
        InvalidError: not an email address.
    """
    cleaned = email.strip().lower()
    if not _EMAIL.fullmatch(cleaned) or not cleaned.isprintable():
        raise InvalidError(
            _("%(email)s is not an email address.", email=repr(email)),
            mend=_("Write it as name@example.org."),
            field="email",
        )
    return cleaned


def _clean_name(name: str, field: str) -> str:
    cleaned = " ".join(name.split())
    if len(cleaned) > _MAX_NAME_CHARS or not cleaned.isprintable():
        raise InvalidError(
            _(
                "The name has %(cleaned)s characters or some that cannot be printed; up to %(max_name_chars)s fit.",
                cleaned=len(cleaned),
                max_name_chars=_MAX_NAME_CHARS,
            ),
            field=field,
        )
    return cleaned


def _keep_an_admin(db: Session, *, but: User) -> None:
    if not (but.is_site_admin and but.is_active):
        return
    db.execute(text("select 1 from users where is_site_admin and is_active order by id for update"))
    others = exists().where(User.is_site_admin, User.is_active, User.id != but.id)
    if not db.scalar(select(others)):
        raise LastAdminError(
            _("%(email)s is the only site admin.", email=but.email), mend=_("Make somebody else a site admin first.")
        )
