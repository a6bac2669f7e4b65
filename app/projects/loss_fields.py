"""The fields of a form that choose a loss and set what it reads."""

from app.projects.form_fields import Field
from app.rounds.spec import LOSS_SETTINGS, LOSSES, LossSpec, TrainingSettings, loss_options

_SETTING_NAMES = {
    "beta": "β (beta)",
    "tau": "τ (tau)",
    "nu": "ν (nu)",
    "gamma": "γ (gamma)",
    "dpop_lambda": "λ (lambda)",
    "orpo_lambda": "λ (weight of the preference)",
    "label_smoothing": "ε (label smoothing)",
    "ld_alpha": "α (weight of the longer part)",
    "length_alpha": "α (price of a token)",
    "nll_alpha": "α (weight of the likelihood)",
    "desirable_weight": "λ_D (good answers)",
    "undesirable_weight": "λ_U (bad answers)",
}
_SIGNAL_NAMES = {
    "choice": "choices",
    "tie": "ties",
    "both_bad": "'both bad'",
    "label": "labels of single answers",
    "ranking": "rankings",
    "margin": "strengths",
}


def loss_fields() -> tuple[Field, ...]:
    """The loss, every setting that some loss reads, and the options of pairwise losses."""
    return (
        Field(
            "training.loss",
            "Loss",
            kind="select",
            choices=tuple((name, loss.title) for name, loss in LOSSES.items()),
            notes=tuple((name, _note(loss)) for name, loss in LOSSES.items()),
        ),
        *(_setting(name) for name in dict.fromkeys(name for reads in LOSS_SETTINGS.values() for name in reads)),
        Field(
            "training.margin_scale",
            "Strength counts, times",
            "How far a clearer preference has to be apart, in nats. 0 leaves strengths out.",
            placeholder=f"{TrainingSettings().margin_scale:g}",
            only=_only("margin_scale"),
        ),
        Field(
            "training.pair_weighting",
            "Weight of a pair",
            "WPO: pairs that the model would hardly write itself any more count less.",
            "select",
            (("", "as the votes say"), ("wpo", "WPO")),
            only=_only("pair_weighting"),
        ),
    )


def reference_fields() -> tuple[Field, ...]:
    """A reference that moves."""
    return (
        Field(
            "training.reference_sync_steps",
            "Move the reference every so many steps",
            "TR-DPO: the reference follows the model that is trained. Takes the memory of another model.",
            placeholder="it stays",
            only=_only("reference_sync_steps"),
        ),
        Field(
            "training.reference_sync_alpha",
            "How far it moves",
            "1 is all the way. Only where it moves.",
            placeholder=f"{TrainingSettings().reference_sync_alpha:g}",
            only=_only("reference_sync_alpha"),
        ),
    )


def _note(loss: LossSpec) -> str:
    read = [text for signal, text in _SIGNAL_NAMES.items() if signal in loss.signals]
    unread = [text for signal, text in _SIGNAL_NAMES.items() if signal not in loss.signals]
    return f"{loss.use} Learns from {_listed(read)}. Does not read {_listed(unread)}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _setting(name: str) -> Field:
    """A field for ``name``, shown for the losses that read it."""
    reading = {loss: reads[name] for loss, reads in LOSS_SETTINGS.items() if name in reads}
    meanings = dict.fromkeys(rule.meaning.partition(": ")[2] for rule in reading.values())
    # What most of them share is said once: 'Default 0.1; 0.3 for dpop'.
    values = [rule.default for rule in reading.values()]
    usual = max(values, key=values.count)
    others = [f"{rule.default:g} for {LOSSES[loss].title}" for loss, rule in reading.items() if rule.default != usual]
    defaults = "; ".join([f"{usual:g}", *others])
    about = "; ".join(meanings)
    return Field(
        f"training.loss_settings.{name}",
        _SETTING_NAMES[name],
        f"{about[:1].upper()}{about[1:]}. Default {defaults}.",
        only=("training.loss", " ".join(reading)),
    )


def _only(option: str) -> tuple[str, str]:
    """Shown for the losses that read the option."""
    return "training.loss", " ".join(loss for loss in LOSSES if option in loss_options(loss))
