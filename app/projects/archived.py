"""What an archived project does not take any more; who archives one is ``app.rounds.archiving``."""

from app.db.tables import Project
from app.errors import ConflictError
from app.language import _


class ProjectArchivedError(ConflictError):
    """The project is put aside: everything in it can be read, and nothing comes in or is made."""

    code = "project_archived"
    title = _("This project is archived")

    def __init__(self) -> None:
        super().__init__(
            _("An archived project takes no votes, prompts or rounds; everything in it can be read."),
            mend=_("An admin of the project can restore it, in its settings."),
        )


def refuse_archived(project: Project) -> None:
    """Let nothing into a project that is put aside.

    Raises:
        ProjectArchivedError: it is.
    """
    if project.archived_at is not None:
        raise ProjectArchivedError
