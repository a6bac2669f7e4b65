"""Errors of the domain: raised by services, turned into an answer in one place (``app.web.errors``)."""

from typing import Any

from app.language import _


class DomainError(Exception):
    """Something a caller can understand and mend.

    Subclasses set ``code`` (stable, for programs), ``status`` (HTTP) and ``title`` (for people). The message
    says what was wrong with both values in it; ``mend`` says what to do; ``extra`` adds fields to the answer.
    """

    code = "error"
    status = 400
    title: str = _("That did not work")
    headers: dict[str, str] = {}  # noqa: RUF012 - replaced on an instance, never changed in place
    """Further headers of the answer."""

    def __init__(self, message: str, *, mend: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend
        self.extra = extra


class NotFoundError(DomainError):
    """No such thing, or not in a project of the caller's: the two look alike on purpose."""

    code = "not_found"
    status = 404
    title: str = _("Not found")


class ForbiddenError(DomainError):
    """The caller is known but may not do this."""

    code = "forbidden"
    status = 403
    title: str = _("Not allowed")


class ConflictError(DomainError):
    """The thing is in a state in which this cannot be done."""

    code = "conflict"
    status = 409
    title: str = _("Not possible now")


class InvalidError(DomainError):
    """The input is understood and wrong."""

    code = "invalid"
    status = 422
    title: str = _("Not valid")
