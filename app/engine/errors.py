"""What can go wrong between the product and its engine, sorted by what to do about it."""

from app.errors import DomainError
from app.language import _


class EngineUnavailable(DomainError):  # noqa: N818 - says what is the matter, not that something is
    """It does not answer, or not now: try again later. Nothing was lost."""

    code = "engine_unavailable"
    status = 503
    title = _("The engine does not answer")

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, asleep: bool = False) -> None:
        """``asleep``: it has lent its memory, for as long as a round trains."""
        super().__init__(message, mend=_("It is tried again by itself; `hone doctor` says whether the engine runs."))
        self.retry_after_seconds = retry_after_seconds
        self.asleep = asleep


class EngineRefused(DomainError):  # noqa: N818 - as above
    """It understood and said no: the same request will be refused again. ``code`` is the engine's own."""

    status = 502
    title = _("The engine refused")

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, mend=_("Change the request or the project's sampling settings."))
        self.code = code


class EngineNonsense(DomainError):  # noqa: N818 - as above
    """Its answer is not of the protocol; a bug or another kind of server."""

    code = "engine_nonsense"
    status = 502
    title = _("The engine's answer makes no sense")

    def __init__(self, message: str) -> None:
        super().__init__(message, mend=_("Check HONE_ENGINE_URL: it wants Hone's engine, vLLM or SGLang."))
