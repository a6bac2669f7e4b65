"""What makes a project's settings valid, whichever door they came through: form, API or the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.errors import InvalidError
from app.language import _, _n, listed
from app.language.texts import Message
from app.projects import base_model, schedule
from app.projects.aggregation import OVERALL, WEIGHTED
from app.projects.schemas import ProjectEdit, ProjectIn
from app.rounds.spec import SpecError, TrainingSettings, problems

Draft = TypeVar("Draft", ProjectIn, ProjectEdit)


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field; ``field`` is its dotted name, as in 'training.loss_settings.beta'."""

    field: str
    message: str


class ProjectInvalidError(InvalidError):
    """One or more settings cannot be used; ``errors`` has every one of them."""

    code = "invalid_project"
    title = _("Some settings cannot be used")

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(
            listed(
                Message("%(field)s: %(message)s", {"field": error.field, "message": error.message}) for error in errors
            ),
            mend=_("Correct the fields named and send it again; nothing was changed."),
            errors=[{"field": error.field, "message": error.message} for error in errors],
        )
        self.errors = errors


def draft(model: type[Draft], values: Mapping[str, Any], *, check_base: bool = True) -> Draft:
    """``values`` checked as a whole: types and ranges, training settings, schedule, base model.

    The base model comes back as it is stored, training settings with every default filled in.

    Raises:
        ProjectInvalidError: with all the errors at once.
    """
    errors: list[FieldError] = []
    checked: Draft | None = None
    try:
        checked = model.model_validate(dict(values))
    except ValidationError as error:
        errors += plain_errors(error)
    training, base = values.get("training") or {}, values.get("base_model")
    with_defaults: dict[str, Any] = {}
    if isinstance(training, Mapping):
        try:
            with_defaults = TrainingSettings.from_dict(training).to_dict()
        except SpecError:
            errors += [FieldError(f"training.{error.field}", error.message) for error in problems(training)]
    if checked is not None:
        errors += _fits_together(checked)
    crontab = values.get("round_schedule")
    if isinstance(crontab, str):
        try:
            schedule.parse(crontab)
        except ValueError as error:
            errors.append(FieldError("round_schedule", error.args[0]))
    if isinstance(base, str) and check_base:
        try:
            base = base_model.check(base)
        except base_model.BaseModelError as error:
            errors.append(FieldError("base_model", error.args[0]))
    if checked is None or errors:
        raise ProjectInvalidError(errors)
    return checked.model_copy(update={"training": with_defaults, "base_model": base})


def _fits_together(checked: ProjectIn | ProjectEdit) -> list[FieldError]:
    """What is in range alone, but not beside another setting."""
    trained_on, asked = checked.aggregation.criteria, checked.reviewing.criteria_by_key
    if trained_on not in (OVERALL, WEIGHTED, *asked):
        told = _(
            "rounds would learn from %(criterion)s alone, which reviewers are not asked for; ask for it, "
            "or train on the choice itself",
            criterion=repr(trained_on),
        )
        return [FieldError("aggregation.criteria", told)]
    wanted, answers = checked.refilling.pairs_per_prompt, checked.reviewing.answers
    if checked.reviewing.mode == "ranking" and wanted > 1:
        told = _("a ranking has all answers in it and forms no pairs; leave it at 1, not %(wanted)s", wanted=wanted)
        return [FieldError("refilling.pairs_per_prompt", told)]
    pairs = answers * (answers - 1) // 2
    if wanted > pairs:
        told = _n(
            "%(answers)s answers to a prompt make at most %(n)s pair, not %(wanted)s; sample more answers, "
            "or form fewer pairs",
            "%(answers)s answers to a prompt make at most %(n)s pairs, not %(wanted)s; sample more answers, "
            "or form fewer pairs",
            pairs,
            answers=answers,
            wanted=wanted,
        )
        return [FieldError("refilling.pairs_per_prompt", told)]
    return []


def plain_errors(error: ValidationError) -> list[FieldError]:
    """pydantic's errors with dotted names and in plain words, both values in them."""
    return [FieldError(".".join(map(str, item["loc"])), _plain(item)) for item in error.errors()]


_PLAIN = {
    "greater_than_equal": _("must be at least %(ge)s, not %(given)s"),
    "greater_than": _("must be above %(gt)s, not %(given)s"),
    "less_than_equal": _("must be at most %(le)s, not %(given)s"),
    "less_than": _("must be below %(lt)s, not %(given)s"),
    "missing": _("is needed"),
    "extra_forbidden": _("there is no such setting"),
    "int_parsing": _("must be a whole number, not %(given)s"),
    "int_from_float": _("must be a whole number, not %(given)s"),
    "int_type": _("must be a whole number, not %(given)s"),
    "float_parsing": _("must be a number, not %(given)s"),
    "float_type": _("must be a number, not %(given)s"),
    "literal_error": _("must be one of %(expected)s, not %(given)s"),
    "string_too_short": _("cannot be empty"),
    "string_too_long": _("has %(length)s characters, at most %(max_length)s are allowed"),
    "too_long": _("has %(actual_length)s entries, at most %(max_length)s are allowed"),
}


def _plain(item: ErrorDetails) -> str:
    given = item.get("input")
    if item["type"] == "string_pattern_mismatch":
        return _(
            "%(given)s may hold small letters, digits and hyphens only, 63 at most, and starts with no hyphen",
            given=repr(given),
        )
    pattern = _PLAIN.get(item["type"])
    if pattern is None:
        raised = item.get("ctx", {}).get("error")
        return raised.args[0] if isinstance(raised, ValueError) and raised.args else item["msg"]
    limits = {name: f"{value:g}" if isinstance(value, float) else value for name, value in item.get("ctx", {}).items()}
    length = len(given) if isinstance(given, str) else 0
    return Message(str(pattern), {**limits, "given": repr(given), "length": length})
