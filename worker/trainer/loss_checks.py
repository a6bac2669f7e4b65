"""The audit's checks that belong to one loss: whether the signals it is fed make sense to it."""

from collections.abc import Mapping, Sequence

from app.rounds.spec import TrainingSettings
from worker.trainer.audit import Finding
from worker.trainer.examples import Example, Examples
from worker.trainer.losses.discopop import RIGHT_WAY_TAU
from worker.trainer.order import steps
from worker.trainer.packing import Unit

KTO_BALANCE = (1.0, 1.5)
"""λ_D·n_D/(λ_U·n_U) belongs in here: arXiv:2402.01306."""


def loss_findings(examples: Examples, settings: TrainingSettings, mismatched: Mapping[int, Unit]) -> list[Finding]:
    """Findings of the chosen loss; ``mismatched``: those of the training split."""
    found = [*_margins(examples), *_without_effect(examples, settings)]
    if settings.loss == "kto":
        found += [_balance(examples.train, settings), _baseline(examples.train, mismatched)]
    if settings.loss in ("rao_kupper", "davidson") and not any(p.tie for e in examples.train for p in e.pairs):
        note = f"without ties loss {settings.loss!r} has nothing on DPO; use 'sigmoid', or let reviewers call ties"
        found.append(Finding("ties to learn from", "0", "warn", note))
    if settings.loss == "discopop" and settings.loss_settings["discopop_tau"] < RIGHT_WAY_TAU:
        note = f"level pairs are pulled against their vote; set discopop_tau to {RIGHT_WAY_TAU:g} or more, or know why"
        found.append(Finding("τ of DiscoPOP", f"{settings.loss_settings['discopop_tau']:g}", "warn", note))
    if settings.loss == "plackett_luce" and not examples.used["ranking"]:
        note = "rankings of two answers alone: loss 'sigmoid' is the same, and reads margins"
        found.append(Finding("rankings to learn from", "0", "warn", note))
    return found


def _without_effect(examples: Examples, settings: TrainingSettings) -> list[Finding]:
    """Settings that were asked for and that this job is too small for."""
    found = []
    total, every = len(steps(examples.train, settings)), settings.reference_sync_steps
    if every is not None and every > total:
        note = f"the job has {total} steps, so the reference stays; lower reference_sync_steps, or train longer"
        found.append(Finding("moves of the reference", "0", "warn", note))
    if settings.eval_every_steps is not None and not examples.eval:
        note = "eval_every_steps has nothing to evaluate; hold prompts out, or leave it out"
        found.append(Finding("held out for evaluations", "0", "warn", note))
    if settings.early_stop_evaluations is not None and not examples.eval:
        note = "early_stop_evaluations has no loss to go by; hold prompts out, or set kl_budget_nats"
        found.append(Finding("held out for early stopping", "0", "warn", note))
    return found


def _margins(examples: Examples) -> list[Finding]:
    margins = [pair.margin for example in examples.train for pair in example.pairs if pair.margin]
    if not margins:
        return []
    value = f"{len(margins)} preferences, δ from {min(margins):g} to {max(margins):g} nats"
    if min(margins) < 0:
        return [
            Finding("margins", value, "warn", "a negative margin asks the chosen answer to win by less than nothing")
        ]
    return [Finding("margins", value)]


def _balance(train: Sequence[Example], settings: TrainingSettings) -> Finding:
    good = sum(label.weight for example in train for label in example.labels if label.desirable)
    bad = sum(label.weight for example in train for label in example.labels if not label.desirable)
    if not good or not bad:
        kind = "good" if good else "bad"
        note = "without the other kind the policy is only pushed one way; collect both"
        return Finding("good and bad answers", f"only {kind} ones", "warn", note)
    weights = settings.loss_settings
    ratio = weights["desirable_weight"] * good / (weights["undesirable_weight"] * bad)
    value = f"{good:g} to {bad:g}, λ_D·n_D/(λ_U·n_U) = {ratio:.3g}"
    low, high = KTO_BALANCE
    if low <= round(ratio, 9) <= high:
        return Finding("good and bad answers", value)
    wanted = weights["undesirable_weight"] * bad / good
    note = (
        f"belongs between {low:g} and {high:g}: set desirable_weight between {low * wanted:.3g} and {high * wanted:.3g}"
    )
    return Finding("good and bad answers", value, "warn", note)


def _baseline(train: Sequence[Example], mismatched: Mapping[int, Unit]) -> Finding:
    # A group with many judgements is several examples.
    groups, having = ({example.group.id for example in some} for some in (train, [train[i] for i in mismatched]))
    value = f"{len(having)} of {len(groups)} groups have an answer to another prompt"
    if mismatched:
        return Finding("KTO's point of reference", value)
    note = "z0 stays 0; train on more than one prompt, or raise max_length"
    return Finding("KTO's point of reference", value, "warn", note)
