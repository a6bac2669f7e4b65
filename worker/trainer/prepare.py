"""Everything before the first step: reading, loading, the audit, and the reference's log-probs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.rounds.spec import GROUPS_FILE, ModelRef, Spec, TrainingSettings
from app.versions.manifest import VersionInfo, verify
from worker.models import load_tokenizer, load_weights, verify_base
from worker.trainer import compiling, quantization
from worker.trainer.audit import Audit, Finding, data_findings
from worker.trainer.data import Group, read_groups
from worker.trainer.distributed import ALONE, Crew, ShardedForward
from worker.trainer.errors import RefusedError
from worker.trainer.examples import Example, Examples, select
from worker.trainer.forward import Forward
from worker.trainer.loop import Passes
from worker.trainer.loss_checks import loss_findings
from worker.trainer.mismatched import mismatched_units
from worker.trainer.objective import Objective
from worker.trainer.order import steps
from worker.trainer.packing import ForwardPath, Unit
from worker.trainer.parts import by_judgements, by_tokens
from worker.trainer.policy import Policy, attention_for, load_start, make_trainable
from worker.trainer.reading import read_findings
from worker.trainer.reference import ReferenceStore, completion_keys, compute, missing_plans
from worker.trainer.report import Report
from worker.trainer.selfcheck import choose_path
from worker.trainer.truncation import shorten

REFERENCE_DIRECTORY = "reference"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that may be trained: the start as it is, and what it will learn from.

    One process has the start frozen. Several have it trainable and sharded already, and not changed yet.
    """

    spec: Spec
    info: VersionInfo
    policy: Policy
    forward: Forward
    examples: Examples
    mismatched: tuple[Mapping[int, Unit], Mapping[int, Unit]]
    """Of train and eval: by index of an example, its prompt with an answer to another one; empty for most losses."""
    passes: Passes
    audit: Audit
    crew: Crew

    @property
    def units(self) -> list[Unit]:
        """Everything whose log-probs under the reference are wanted."""
        return self.examples.units + [unit for split in self.mismatched for unit in split.values()]


def prepare(directory: Path, report: Report, crew: Crew = ALONE) -> Prepared:
    """Read and load the job in ``directory`` and audit its data; all of a crew do it together.

    Raises:
        SpecError, ManifestError, ModelError, RefusedError: the input is bad, or training on it would be wrong.
    """
    spec = Spec.read(directory)
    groups = read_groups(directory / GROUPS_FILE)
    report.phase("loading")
    settings = spec.settings
    torch.manual_seed(settings.seed)
    info = verified(spec.start)
    max_length = _max_length(settings, info)
    shortened: list[Finding] = []
    if settings.truncate == "prompt_start":
        bos_id = load_tokenizer(Path(spec.start.path), converses=False).bos_token_id
        groups, shortened = shorten(groups, max_length, bos_id)
    examples = select(groups, settings.loss, max_length, settings.margin_scale)
    _check_reference(spec, examples)
    policy, forward = _load(spec, info, crew)
    audit = Audit()
    try:
        audit.add([*read_findings(directory), *shortened, *_data(groups, examples, policy, max_length)])
        examples = replace(examples, train=by_judgements(examples.train, settings.pairs_per_step))
        path, finding = choose_path(forward, _pieces(examples, settings, "shared").all)
        audit.add([finding])
    except RefusedError:
        report.audit(audit)
        raise
    examples = _pieces(examples, settings, path)
    passes = Passes(path, settings.tokens_per_row, forward.row_length(settings))
    mismatched: tuple[Mapping[int, Unit], Mapping[int, Unit]] = ({}, {})
    if Objective(settings).needs_baseline:
        mismatched = (mismatched_units(examples.train, max_length), mismatched_units(examples.eval, max_length))
    audit.add(loss_findings(examples, settings, mismatched[0]))
    return Prepared(spec, info, policy, forward, examples, mismatched, passes, audit, crew)


def _pieces(examples: Examples, settings: TrainingSettings, path: ForwardPath) -> Examples:
    train, held_out = (by_tokens(split, settings.tokens_per_row, path) for split in (examples.train, examples.eval))
    return replace(examples, train=train, eval=held_out)


def _check_reference(spec: Spec, examples: Examples) -> None:
    """Refuse a reference that cannot tell the log-probs of what is trained on.

    To one with another vocabulary the start's token ids are other texts, and beyond its context a model says nothing
    that was ever trained.
    """
    if spec.reference.digest == spec.start.digest:
        return
    directory = Path(spec.reference.path)
    info = VersionInfo.read(directory)
    name = info.source.get("path") or info.source.get("hub") or directory
    start, reference = (
        load_tokenizer(Path(ref.path), converses=False).get_vocab() for ref in (spec.start, spec.reference)
    )
    others = start.items() ^ reference.items()
    if others:
        token, number = min(others, key=lambda item: (item[1], item[0]))
        raise RefusedError(
            f"the reference {name} has another vocabulary than the start: {len(others)} tokens differ, the first is "
            f"{token!r}, id {number}; name a reference with the start's tokenizer"
        )
    longest = max((unit.plain_length for unit in examples.units), default=0)
    if longest > info.context_length:
        raise RefusedError(
            f"the reference {name} has a context of {info.context_length} tokens, and prompt and completion together "
            f"have up to {longest}; set max_length to {info.context_length}, or name another reference"
        )


def _load(spec: Spec, info: VersionInfo, crew: Crew) -> tuple[Policy, Forward]:
    """The start, and passes over it."""
    settings, autocast = spec.settings, _autocast(spec.settings, crew.device)
    if crew.size == 1:
        policy = load_start(spec.start, info, settings, crew.device)
        return policy, Forward(policy.model, autocast=autocast)

    import peft  # noqa: F401 - seconds of importing, which all processes do at once rather than in turn

    def load() -> tuple[Policy, Forward]:
        start = load_start(spec.start, info, settings, crew.device, load_on=torch.device("cpu"))
        trainable = make_trainable(start, settings, mapped=True)
        return trainable, ShardedForward(trainable.model, crew, autocast=autocast)

    return crew.in_turn(load)


def reference_logps(directory: Path, prepared: Prepared, report: Report) -> dict[str, Tensor]:
    """Log-probs of every completion under the reference, from the store or computed into it.

    Call it before anything is trained: where the reference is the start, the start computes them.
    """
    spec, forward, passes = prepared.spec, prepared.forward, prepared.passes
    units = prepared.units
    keys = completion_keys(units)
    wanted = {key for unit in keys for key in unit}
    place = Path(spec.reference_store) if spec.reference_store else directory / REFERENCE_DIRECTORY
    weights = "-nf4" if spec.settings.method == "qlora" else ""
    kind = f"{precision(forward)}{weights}-{forward.device.type}"
    store = ReferenceStore(place, spec.reference.digest, kind, passes.path)
    stored = prepared.crew.first_tensors(store.read(wanted) if prepared.crew.main else {})
    todo = missing_plans(passes.plan_units(units, range(len(units))), keys, stored)
    report.work.total = _work(prepared, [unit for made in todo for unit in made.units])
    if compiling.pays(spec.settings, prepared.policy.model, report.work.total):
        forward.compile_layers()
    if not todo:
        return stored
    report.phase("reference")
    if spec.reference.digest != spec.start.digest:
        forward = _reference_forward(prepared)

    def on_pass(tokens: int) -> None:
        report.work.done += tokens * prepared.crew.size
        report.progressed()
        report.stop.check("the reference log-probs computed so far are kept")

    return compute(forward, units, todo, passes.path, store=store, stored=stored, on_pass=on_pass, crew=prepared.crew)


def verified(model: ModelRef) -> VersionInfo:
    """The version.json of a model that is what the spec says, and whose base is what it says.

    Raises:
        ManifestError: a file differs from its manifest.
        RefusedError: the directory is whole but another version.
    """
    directory = Path(model.path)
    digest = verify(directory)
    if digest != model.digest:
        raise RefusedError(f"{directory} has digest {digest}, the job names {model.digest}; give it the right version")
    info = VersionInfo.read(directory)
    if info.kind == "adapter":
        verify_base(directory, info)
    return info


def precision(forward: Forward) -> str:
    """'bfloat16' under autocast, else 'float32'."""
    return "float32" if forward.autocast_dtype is None else "bfloat16"


def step_tokens(examples: Sequence[Example], indices: Sequence[int], prepared: Prepared) -> int:
    """Tokens of the forward passes over the examples at ``indices``, without padding."""
    return sum(_tokens(examples[i].unit, prepared) for i in indices)


def step_work(prepared: Prepared, step: Sequence[int]) -> int:
    """Tokens forward of one optimiser step; a training token counts three times, for its backward pass."""
    mismatched = prepared.mismatched[0]
    extra = sum(_tokens(mismatched[i], prepared) for i in step if i in mismatched)
    return 3 * step_tokens(prepared.examples.train, step, prepared) + extra


def _tokens(unit: Unit, prepared: Prepared) -> int:
    return unit.plain_total if prepared.passes.path == "plain" else unit.shared_length


def _work(prepared: Prepared, missing: Sequence[int]) -> int:
    """Tokens forward of the whole job."""
    examples, settings = prepared.examples, prepared.spec.settings
    order = steps(examples.train, settings)
    evaluations = 2 + (len(order) - 1) // (settings.eval_every_steps or len(order) + 1)
    held_out = step_tokens(examples.eval, range(len(examples.eval)), prepared)
    held_out += sum(_tokens(unit, prepared) for unit in prepared.mismatched[1].values())
    units = prepared.units
    reference = sum(_tokens(units[i], prepared) for i in missing)
    return reference + sum(step_work(prepared, step) for step in order) + evaluations * held_out


def _data(groups: Sequence[Group], examples: Examples, policy: Policy, max_length: int) -> Any:
    tokenizer = load_tokenizer(policy.start, converses=False)
    eos = policy.model.generation_config.eos_token_id
    ids = [tokenizer.eos_token_id] if eos is None else eos if isinstance(eos, list) else [eos]
    return data_findings(
        groups,
        examples,
        tokenizer,
        eos_ids=frozenset(ids),
        vocabulary=policy.model.get_input_embeddings().weight.shape[0],
        max_length=max_length,
    )


def _reference_forward(prepared: Prepared) -> Forward:
    """The reference model, beside the start; it goes when its log-probs are made."""
    spec, crew, like = prepared.spec, prepared.crew, prepared.forward
    info, directory = verified(spec.reference), Path(spec.reference.path)
    options: dict[str, Any] = {"attention": attention_for(crew.device)}
    if spec.settings.method == "qlora":
        options["quantization"] = quantization.configuration(spec.settings, crew.device)
    if crew.size == 1:
        model = load_weights(directory, info, torch.float32, crew.device, **options)
        return Forward(model, autocast=like.autocast_dtype, compiled=like.compiled)

    def load() -> Forward:
        model = load_weights(directory, info, torch.float32, "cpu", **options)
        return ShardedForward(model, crew, autocast=like.autocast_dtype)

    return crew.in_turn(load)


def _autocast(settings: TrainingSettings, device: torch.device) -> torch.dtype | None:
    if settings.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return torch.bfloat16 if settings.dtype == "bfloat16" else None


def _max_length(settings: TrainingSettings, info: VersionInfo) -> int:
    if settings.max_length is not None and settings.max_length > info.context_length:
        raise RefusedError(
            f"max_length {settings.max_length} is above the model's context of {info.context_length} tokens; lower it"
        )
    return settings.max_length or info.context_length
