"""Every training setting as an option of ``hone train`` and a key of its configuration file.

The settings are those of ``TrainingSettings``; here is only how each is asked for and explained.
"""

import inspect
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
import yaml

from app.rounds.spec import (
    ALL_LINEAR,
    COMPILE,
    DIVERGENCES,
    DTYPES,
    LOSS_ALIASES,
    LOSSES,
    METHODS,
    OPTIONS_OF_LOSSES,
    PUBLISH,
    SCHEDULES,
    TR_DPO,
    TRUNCATE,
    SpecError,
    TrainingSettings,
    loss_options,
)
from worker.trainer.errors import RefusedError
from worker.trainer.othernames import meant

PANELS: dict[str, dict[str, str]] = {
    "Loss": {
        "loss": "What is minimised; sigmoid is DPO. All are listed below.",
        "margin_scale": "Times a preference's margin is its lead in nats; 0 leaves margins out.",
        "pair_weighting": "none, or wpo: weigh a pair by how likely the policy would write it; for old pairs.",
        "f_divergence": f"{', '.join(DIVERGENCES)}: the divergence from the reference that rewards are of (f-DPO).",
        "f_divergence_alpha": "α of f_divergence alpha: towards 0 the forward KL, at 1 the reverse.",
        "reference_sync_steps": "Move the reference towards the policy every so many steps (TR-DPO). Unset, it stays.",
        "reference_sync_alpha": "How far it moves; 1 is all the way.",
    },
    "What is trained": {
        "method": f"{', '.join(METHODS)}: an adapter, one over weights of 4 bits (CUDA), or every weight.",
        "lora_rank": "Rank of the adapter.",
        "lora_alpha": "The adapter counts alpha / rank: raise it with the rank. Twice the rank is usual.",
        "lora_dropout": "Dropout before the adapter, such as 0.05 for few preferences. The model's own stays off.",
        "lora_targets": "all-linear, or names of modules with commas between.",
        "lora_dora": "DoRA; published merged.",
        "lora_rslora": "rsLoRA: alpha / square root of the rank, for ranks of 64 and more.",
    },
    "Steps": {
        "learning_rate": "Peak. By default 1e-4 for adapters, 5e-6 for full training, which suits some hundred "
        "preferences; with tens of thousands a tenth of it or less.",
        "schedule": f"{', '.join(SCHEDULES)}, after the warm-up; the first two fall to 0, or to lr_min_ratio.",
        "lr_min_ratio": "Share of the learning rate at which a falling schedule ends.",
        "warmup_ratio": "Share of the steps in which the learning rate rises.",
        "warmup_steps": "The same in steps; one of the two.",
        "weight_decay": "AdamW's, on matrices only. The loss holds the policy to its reference without it.",
        "adam_beta1": "AdamW's decay of the mean gradient.",
        "adam_beta2": "AdamW's decay of the mean squared gradient; 0.95 forgets sooner.",
        "adam_epsilon": "AdamW's epsilon.",
        "max_grad_norm": "Gradients are clipped to this norm.",
        "epochs": "Times each judgement is read.",
        "max_steps": "Stop after this many optimiser steps.",
        "pairs_per_step": "Judgements per optimiser step, however few fit into memory at once: the whole batch.",
        "seed": "Of the order of examples, of new adapters and of dropout.",
    },
    "Memory and precision": {
        "tokens_per_row": "Tokens per forward pass; less needs less memory, and changes nothing that is learned.",
        "gradient_checkpointing": "Compute layers again in the backward pass: less memory, up to a third more time.",
        "compile": f"{', '.join(COMPILE)}: compile layers on a GPU; auto does where the job is long enough to gain.",
        "max_length": "Longest prompt + answer, tokens; by default the model's context. What is longer is left out.",
        "truncate": f"{' or '.join(TRUNCATE)}: cut the beginning of prompts that are too long; answers never are.",
        "dtype": f"{', '.join(DTYPES)}: bfloat16 is autocast over fp32 weights, auto takes it on a GPU that has it.",
    },
    "Evaluation, stopping, checkpoints": {
        "eval_every_steps": "Evaluate held-out judgements every so many steps; at the start and the end in any case.",
        "kl_budget_nats": "Stop beyond this distance from the reference, nats per completion.",
        "early_stop_evaluations": "Stop after so many evaluations in a row without a lower held-out loss.",
        "publish": f"{' or '.join(PUBLISH)}: the weights of the lowest held-out loss, or the final ones.",
        "checkpoint_every_steps": "Checkpoint every so many steps.",
        "checkpoint_every_seconds": "Checkpoint at least so often.",
        "displacement_alarm_nats": "Warn when chosen answers lose this much log-probability.",
    },
    "Machines": {
        "processes": "Processes on this machine, a GPU each.",
        "nodes": "Machines; every further one runs `hone node`.",
        "rendezvous": "host:port of this machine, as the others reach it.",
    },
}
HELP = {name: text for panel in PANELS.values() for name, text in panel.items()}
ELSEWHERE = {"loss_settings", "reference"}
"""Settings that are options of another form: --loss-setting NAME=VALUE, and --reference DIR."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """``command(…, settings=…)`` with an option for every setting in place of ``settings``.

    The command gets those that were given, by name.
    """
    hints = get_type_hints(TrainingSettings)
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
    names = [name for name in hints if name not in ELSEWHERE]

    def run(**values: Any) -> None:
        given = {name: values.pop(name) for name in names}
        command(**values, settings={name: value for name, value in given.items() if value is not None})

    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                _plain(hints[name]) | None, typer.Option(help=_help(name), rich_help_panel=_panel(name))
            ],
        )
        for name in names
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + options
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run


def losses_help() -> str:
    """What stands below the options: every loss, with its settings and when to use it."""
    lines = ["Losses, and what --loss-setting takes (docs/losses has a page for each):"]
    for name, loss in LOSSES.items():
        settings = ", ".join(f"{setting} {rule.default:g}" for setting, rule in loss.settings.items())
        lines.append(f"[bold]{name}[/bold] ({settings}): {loss.use}")
    return "\n\n".join(lines)


def _help(name: str) -> str:
    """What an option does, and its default where that is not said there."""
    default = getattr(TrainingSettings(), name)
    if default is None or isinstance(default, bool) or "default" in HELP[name]:
        return HELP[name]
    return f"{HELP[name]} Default {f'{default:g}' if isinstance(default, float) else default}."


def _panel(name: str) -> str:
    return next(title for title, options in PANELS.items() if name in options)


def read_configuration(file: Path, others: frozenset[str]) -> dict[str, Any]:
    """The options in a YAML file: any setting, ``loss_settings``, and the ``others``; hyphens as on the command line.

    Raises:
        RefusedError: it cannot be read, is no mapping, or names an option there is none of.
    """
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}; name a YAML file") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RefusedError(f"{file} cannot be read as YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise RefusedError(f"{file} holds {type(data).__name__}; write 'option: value' lines")
    known = others | set(get_type_hints(TrainingSettings))
    options: dict[str, Any] = {}
    for written, value in data.items():
        name = str(written).replace("-", "_")
        if name not in known:
            raise RefusedError(f"{file}: {name!r} is no option; {meant(name, known)}")
        if name in options:
            raise RefusedError(f"{file}: {name!r} is there twice, with hyphens and without; keep one of them")
        options[name] = value
    given = options.get("loss_settings")
    if given is not None and not isinstance(given, Mapping):
        raise SpecError("loss_settings", f"{given!r} is no mapping; write it as {{beta: 0.2}}")
    if given is not None:
        options["loss_settings"] = _without_nulls(given)
    return _without_nulls(options)


def read_by(loss: str, configured: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A configuration for another ``loss`` than its own, and the names of what that does not read, dropped."""
    chosen, own = _canonical(loss), _canonical(configured.get("loss", TrainingSettings().loss))
    if chosen == own or chosen not in LOSSES:
        return configured, []
    reads = {*LOSSES[chosen].settings, *loss_options(chosen)}
    others = {*OPTIONS_OF_LOSSES, *(name for spec in LOSSES.values() for name in spec.settings)} - reads
    settings = configured.get("loss_settings", {})
    dropped = [name for name in (*settings, *configured) if name in others]
    kept = {name: value for name, value in configured.items() if name not in dropped}
    return kept | {"loss_settings": {name: value for name, value in settings.items() if name not in dropped}}, dropped


def _canonical(loss: Any) -> Any:
    return "sigmoid" if loss == TR_DPO else LOSS_ALIASES.get(loss, loss) if isinstance(loss, str) else loss


def _without_nulls(options: Mapping[str, Any]) -> dict[str, Any]:
    """Null is the default."""
    return {name: value for name, value in options.items() if value is not None}


def loss_settings(given: list[str]) -> dict[str, float]:
    """Settings of the loss out of NAME=VALUE. Raises SpecError."""
    settings: dict[str, float] = {}
    for item in given:
        name, _, value = item.partition("=")
        try:
            settings[name] = float(value)
        except ValueError as error:
            raise SpecError("loss_setting", f"{item!r} is not NAME=NUMBER") from error
    return settings


def targets(value: Any) -> Any:
    """``lora_targets`` as one types it: a name, or several with commas between, become a list."""
    if not isinstance(value, str) or value == ALL_LINEAR:
        return value
    return [name.strip() for name in value.split(",")]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: 1e-4 is a number, as people expect. A key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                problem = f"the key {key.value!r} is there twice; keep one of them"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _plain(hint: Any) -> Any:
    """The type an option is typed in: of several the first that is not None; a list is typed as a text."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    return hint if hint in (str, int, float, bool) else str
