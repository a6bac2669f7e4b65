"""The fields of a form that choose a loss and set what it reads."""

from app.language import _, listed, sentence
from app.language.figures import Figure
from app.projects.form_fields import Field
from app.rounds.spec import LOSS_SETTINGS, LOSSES, LossSpec, TrainingSettings, loss_options

_SETTING_NAMES = {
    "beta": _("β (beta)"),
    "tau": _("τ (tau)"),
    "nu": _("ν (nu)"),
    "gamma": _("γ (gamma)"),
    "dpop_lambda": _("λ (lambda)"),
    "discopop_tau": _("τ (turn)"),
    "orpo_lambda": _("λ (weight of the preference)"),
    "label_smoothing": _("ε (label smoothing)"),
    "ld_alpha": _("α (weight of the longer part)"),
    "length_alpha": _("α (price of a token)"),
    "nll_alpha": _("α (weight of the likelihood)"),
    "preference_weight": _("w_p (preference)"),
    "quality_weight": _("w_q (quality)"),
    "generation_weight": _("w_g (likelihood)"),
    "desirable_weight": _("λ_D (good answers)"),
    "undesirable_weight": _("λ_U (bad answers)"),
}
_SIGNAL_NAMES = {
    "choice": _("choices"),
    "tie": _("ties"),
    "both_bad": _("'both bad'"),
    "label": _("labels of single answers"),
    "ranking": _("rankings"),
    "margin": _("strengths"),
}


def loss_fields() -> tuple[Field, ...]:
    """The loss, every setting that some loss reads, and the options of pairwise losses."""
    return (
        Field(
            "training.loss",
            _("Loss"),
            kind="select",
            choices=tuple((name, loss.title) for name, loss in LOSSES.items()),
            notes=tuple((name, _note(loss)) for name, loss in LOSSES.items()),
        ),
        *(_setting(name) for name in dict.fromkeys(name for reads in LOSS_SETTINGS.values() for name in reads)),
        Field(
            "training.margin_scale",
            _("Strength counts, times"),
            _("How far a clearer preference has to be apart, in nats. 0 leaves strengths out."),
            placeholder=f"{TrainingSettings().margin_scale:g}",
            only=_only("margin_scale"),
        ),
        Field(
            "training.pair_weighting",
            _("Weight of a pair"),
            _("WPO: pairs that the model would hardly write itself any more count less."),
            "select",
            (("", _("as the votes say")), ("wpo", _("WPO"))),
            only=_only("pair_weighting"),
        ),
        Field(
            "training.f_divergence",
            _("Divergence from the reference"),
            _("f-DPO: what the model's distance from its reference is measured by, and so what a reward is."),
            "select",
            (
                ("", _("reverse KL, as in DPO")),
                ("forward_kl", _("forward KL")),
                ("js", _("Jensen-Shannon")),
                ("alpha", _("α-divergence")),
            ),
            only=_only("f_divergence"),
        ),
        Field(
            "training.f_divergence_alpha",
            _("α of the α-divergence"),
            _("Towards 0 the forward KL, at 1 the reverse. Only with the α-divergence."),
            placeholder=f"{TrainingSettings().f_divergence_alpha:g}",
            only=_only("f_divergence_alpha"),
        ),
    )


def reference_fields() -> tuple[Field, ...]:
    """A reference that moves."""
    return (
        Field(
            "training.reference_sync_steps",
            _("Move the reference every so many steps"),
            _("TR-DPO: the reference follows the model that is trained. Takes the memory of another model."),
            placeholder=_("it stays"),
            only=_only("reference_sync_steps"),
        ),
        Field(
            "training.reference_sync_alpha",
            _("How far it moves"),
            _("1 is all the way. Only where it moves."),
            placeholder=f"{TrainingSettings().reference_sync_alpha:g}",
            only=_only("reference_sync_alpha"),
        ),
    )


def _note(loss: LossSpec) -> str:
    read = [text for signal, text in _SIGNAL_NAMES.items() if signal in loss.signals]
    unread = [text for signal, text in _SIGNAL_NAMES.items() if signal not in loss.signals]
    return _(
        "%(use)s Learns from: %(read)s. Does not read: %(unread)s.",
        use=loss.use,
        read=listed(read, ", "),
        unread=listed(unread, ", "),
    )


def _setting(name: str) -> Field:
    """A field for ``name``, shown for the losses that read it."""
    reading = {loss: reads[name] for loss, reads in LOSS_SETTINGS.items() if name in reads}
    abouts = dict.fromkeys(rule.about for rule in reading.values())
    # What most of them share is said once: 'Default 0.1; 0.3 for dpop'.
    values = [rule.default for rule in reading.values()]
    usual = max(values, key=values.count)
    others = [
        _("%(value)s for %(loss)s", value=_figure(rule.default), loss=LOSSES[loss].title)
        for loss, rule in reading.items()
        if rule.default != usual
    ]
    return Field(
        f"training.loss_settings.{name}",
        _SETTING_NAMES[name],
        _(
            "%(about)s Default %(defaults)s.",
            about=sentence(listed(abouts)),
            defaults=listed([_figure(usual), *others]),
        ),
        only=("training.loss", " ".join(reading)),
    )


def _figure(value: float) -> Figure:
    """As it is written by hand, in the reader's language: 5, 0.1."""
    return Figure(int(value) if value.is_integer() else value)


def _only(option: str) -> tuple[str, str]:
    """Shown for the losses that read the option."""
    return "training.loss", " ".join(loss for loss in LOSSES if option in loss_options(loss))
