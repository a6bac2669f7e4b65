"""Making a project and changing its settings: one form for both."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from app.accounts import access
from app.accounts.principal import Principal, ProjectContext
from app.language import _, listed, sentence
from app.projects import forms, service
from app.projects.form_sections import SECTIONS
from app.projects.validation import FieldError, ProjectInvalidError
from app.rounds import service as rounds
from app.web.deps import Db, Fields, Render, see_other

router = APIRouter(include_in_schema=False)


@router.get("/projects/new")
def new(_me: Annotated[Principal, access.site_admin()], render: Render) -> HTMLResponse:
    """An empty form, defaults filled in."""
    return render("projects/new.html", form=forms.blank(), sections=SECTIONS, fixed={})


@router.post("/projects/new")
def create(
    me: Annotated[Principal, access.site_admin()], request: Request, fields: Fields, db: Db, render: Render
) -> Response:
    """Make the project and have its base model imported; or show the form again with what is wrong."""
    form, values = forms.read(fields)
    try:
        project = service.create_project(db, **values, created_by=me.user_id)
    except ProjectInvalidError as error:
        form.add_errors(error.errors)
        return render("projects/new.html", status=422, form=form, sections=SECTIONS, fixed={})
    rounds.request_import(db, project, requested_by=me.user_id)
    told = _("%(name)s is made. Its base model is being imported; add prompts meanwhile.", name=project.name)
    return see_other(request, f"/p/{project.slug}", flash=told)


@router.get("/p/{slug}/settings")
def edit(here: Annotated[ProjectContext, access.admin()], db: Db, render: Render) -> HTMLResponse:
    """The settings as they are."""
    return render("projects/settings.html", **_shown(db, here, forms.of_project(here.project)))


@router.post("/p/{slug}/settings")
def change(
    here: Annotated[ProjectContext, access.admin()], request: Request, fields: Fields, db: Db, render: Render
) -> Response:
    """Store what was changed in the form, or show it again with what is wrong or was changed by somebody else, too."""
    project = here.project
    service.hold(db, project)
    form, values = forms.merge(fields, project)
    me = here.principal
    try:
        if form.stored:  # what is wrong as well is told at once, not when that is settled
            service.check_changes(db, project, by_site_admin=me.is_site_admin, **values)
            return render("projects/settings.html", status=409, **_shown(db, here, form))
        service.update_project(db, project, actor=me.user_id, by_site_admin=me.is_site_admin, **values)
    except ProjectInvalidError as error:
        form.add_errors(error.errors)
    except service.BaseModelFixedError as error:
        form.add_errors([FieldError("base_model", listed((sentence(error.message), error.mend), " "))])
    else:
        told = _("Saved. Rounds that start from now on use these settings.")
        return see_other(request, f"/p/{project.slug}/settings", flash=told)
    return render("projects/settings.html", status=409 if form.stored else 422, **_shown(db, here, form))


@router.post("/p/{slug}/settings/archive")
def archive(here: Annotated[ProjectContext, access.admin()], request: Request, db: Db) -> Response:
    """Put the project aside."""
    rounds.archive(db, here.project, actor=here.principal.user_id)
    told = _("Archived. Nothing comes in any more, and everything can still be read.")
    return see_other(request, f"/p/{here.project.slug}/settings", flash=told)


@router.post("/p/{slug}/settings/restore")
def restore(here: Annotated[ProjectContext, access.admin()], request: Request, db: Db) -> Response:
    """Take it back into use."""
    rounds.restore(db, here.project, actor=here.principal.user_id)
    return see_other(request, f"/p/{here.project.slug}/settings", flash=_("The project is in use again."))


def _shown(db: Db, here: ProjectContext, form: forms.FormState) -> dict[str, Any]:
    fixed = forms.fixed_fields(here.principal)
    if service.has_version(db, here.project):
        fixed["base_model"] = _("Version 1 was made of it, so it stays.")
    return {"project": here.project, "form": form, "sections": SECTIONS, "fixed": fixed}
