"""The losses as settings: their names, every number each one reads, and which of people's signals it learns from.

``worker.trainer.losses`` holds the functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from app.language import _
from app.language.texts import Message
from app.rounds.spec.checks import SpecError, number

Shape = Literal["pairs", "labels", "rankings"]
"""What one judgement is: a preference between two completions, a label on one, or an order of several."""

SIGNALS = ("choice", "tie", "both_bad", "label", "ranking", "margin")
"""What people say: one is better, both equal, both bad, one alone is good or bad, an order; and by how much."""

_PAIRWISE = frozenset({"choice", "ranking", "margin"})


@dataclass(frozen=True, slots=True)
class LossSetting:
    """One number a loss reads: its default, its closed range (open below where ``above``), and its meaning."""

    default: float
    low: float
    high: float
    symbol: str
    about: str
    """What it does."""
    above: bool = False
    """``low`` itself is out of range."""
    below: bool = False
    """``high`` itself is out of range."""

    def check(self, name: str, value: object) -> float:
        """``value`` as a float in range.

        Raises:
            SpecError: it is not a finite number, or out of range.
        """
        given = number(name, value)
        too_low = given < self.low or (self.above and given == self.low)
        if too_low or given > self.high or (self.below and given == self.high):
            raise SpecError(
                name,
                _(
                    "%(given)s is out of range; use %(range)s (%(meaning)s)",
                    given=f"{given:g}",
                    range=self.range,
                    meaning=self.meaning,
                ),
            )
        return given

    @property
    def meaning(self) -> str:
        """'SYMBOL: what it does'."""
        return Message("%(symbol)s: %(about)s", {"symbol": self.symbol, "about": self.about})

    @property
    def range(self) -> str:
        """In words."""
        low, high = f"{self.low:g}", f"{self.high:g}"
        if self.above and self.below:
            return _("above %(low)s and below %(high)s", low=low, high=high)
        if self.above:
            return _("above %(low)s and at most %(high)s", low=low, high=high)
        if self.below:
            return _("at least %(low)s and below %(high)s", low=low, high=high)
        return _("at least %(low)s and at most %(high)s", low=low, high=high)


@dataclass(frozen=True, slots=True)
class LossSpec:
    """What a loss is called, reads and learns from."""

    title: str
    use: str
    """When to use it, in one line."""
    settings: dict[str, LossSetting] = field(default_factory=dict)
    shape: Shape = "pairs"
    signals: frozenset[str] = _PAIRWISE
    """Of ``SIGNALS``; the others are counted by name and left out."""
    reference: bool = True
    """Whether it compares with a reference model. Figures do in any case."""
    divergence: bool = False
    """Whether it reads nothing but the difference of two rewards, so that those of another divergence may stand in."""
    shift: bool = False
    """Whether it holds answers against the mean of those of earlier steps."""


def _beta(default: float = 0.1) -> LossSetting:
    return LossSetting(default, 0.0, 100.0, "β", _("how strongly the policy is held to the reference"), above=True)


def _tau() -> LossSetting:
    return LossSetting(0.1, 0.0, 100.0, "τ", _("the target is a difference of 1/(2τ)"), above=True)


def _flips(default: float = 0.1, *, above: bool = False) -> LossSetting:
    about = _("share of preferences that are the wrong way round")
    return LossSetting(default, 0.0, 0.5, "ε", about, above=above, below=True)


LOSSES: dict[str, LossSpec] = {
    "sigmoid": LossSpec(
        "DPO", _("The default: clear choices between sampled answers."), {"beta": _beta()}, divergence=True
    ),
    "dpop": LossSpec(
        "DPO-Positive",
        _("Pairs that differ in few tokens, where DPO lowers the chosen answer too."),
        {
            "beta": _beta(0.3),
            "dpop_lambda": LossSetting(
                50.0, 0.0, 10_000.0, "λ", _("weight of the penalty on a chosen answer that falls")
            ),
        },
    ),
    "ipo": LossSpec(
        _("IPO, averaged over tokens"),
        _("Few or deterministic votes that DPO would overfit."),
        {"tau": _tau()},
        divergence=True,
    ),
    "ipo_sum": LossSpec(
        _("IPO, summed over tokens"),
        _("The same with the sum of the printed formula; answers of one length."),
        {"tau": _tau()},
        divergence=True,
    ),
    "hinge": LossSpec(
        "Hinge (SLiC)", _("Stop learning from a pair once it is apart far enough."), {"beta": _beta()}, divergence=True
    ),
    "cdpo": LossSpec(
        _("Conservative DPO"),
        _("Votes of which a known share is wrong."),
        {"beta": _beta(), "label_smoothing": _flips()},
        divergence=True,
    ),
    "robust": LossSpec(
        _("Robust DPO"),
        _("Votes flipped at random at a known rate, with many pairs to average over."),
        {"beta": _beta(), "label_smoothing": _flips()},
        divergence=True,
    ),
    "exo_pair": LossSpec(
        "EXO",
        _("Pairs that the model cannot all satisfy: it gives some up rather than going half-way with each."),
        {"beta": _beta(), "label_smoothing": _flips(0.001, above=True)},
        divergence=True,
    ),
    "discopop": LossSpec(
        "DiscoPOP",
        _("To compare with the paper: found by a search, logistic behind and exponential ahead."),
        {
            "beta": _beta(0.05),
            "discopop_tau": LossSetting(
                0.05, 0.0, 1.0, "τ", _("how sharply it turns; below 0.11 level pairs go the wrong way"), above=True
            ),
        },
        divergence=True,
    ),
    "length_normalised": LossSpec(
        _("Length-normalised DPO"),
        _("Answers that grow longer round by round."),
        {"beta": _beta(5.0)},
        divergence=True,
    ),
    "ld_dpo": LossSpec(
        "LD-DPO",
        _("Longer answers win although their extra length is no merit."),
        {
            "beta": _beta(),
            "ld_alpha": LossSetting(
                0.5, 0.0, 1.0, "α", _("weight of tokens beyond the shorter answer's length; 1 is DPO")
            ),
        },
    ),
    "rdpo": LossSpec(
        _("R-DPO, length penalty"),
        _("Length bias with a price per token of your own."),
        {
            "beta": _beta(),
            "length_alpha": LossSetting(0.01, 0.0, 10.0, "α", _("price of a token of extra length; 0 is DPO")),
        },
    ),
    "dpo_nll": LossSpec(
        "DPO + NLL",
        _("Hold up good chosen answers: reasoning, or answers that people wrote."),
        {
            "beta": _beta(),
            "nll_alpha": LossSetting(
                1.0, 0.0, 1000.0, "α", _("weight of the chosen answer's loss per token; 0 is DPO")
            ),
        },
    ),
    "simpo": LossSpec(
        _("SimPO, no reference"),
        _("No reference model wanted, and length kept in check."),
        {
            "beta": LossSetting(2.0, 0.0, 100.0, "β", _("scale of the difference of mean log-probs"), above=True),
            "gamma": LossSetting(1.0, 0.0, 100.0, "γ", _("margin that the chosen answer has to win by")),
        },
        reference=False,
    ),
    "orpo": LossSpec(
        _("ORPO, no reference"),
        _("From a base model in one stage: it learns the chosen answers and the preference together."),
        {
            "orpo_lambda": LossSetting(
                0.1, 0.0, 1000.0, "λ", _("weight of the preference beside the chosen answer's loss")
            )
        },
        reference=False,
    ),
    "kto": LossSpec(
        "KTO",
        _("Thumbs up or down on single answers, or many votes of 'both bad'."),
        {
            "beta": _beta(),
            "desirable_weight": LossSetting(1.0, 0.0, 1000.0, "λ_D", _("weight of good answers"), above=True),
            "undesirable_weight": LossSetting(1.0, 0.0, 1000.0, "λ_U", _("weight of bad answers"), above=True),
        },
        shape="labels",
        signals=frozenset({"choice", "both_bad", "label"}),
    ),
    "apo_zero": LossSpec(
        "APO-zero", _("Chosen answers that are better than what the model writes now."), {"beta": _beta()}
    ),
    "apo_down": LossSpec(
        "APO-down", _("Chosen answers that are worse than what the model writes now."), {"beta": _beta()}
    ),
    "nca_pair": LossSpec(
        "NCA",
        _("Chosen answers that fall along with the rejected ones: each is moved by itself."),
        {"beta": _beta(0.01)},
    ),
    "bco_pair": LossSpec(
        "BCO",
        _("Chosen and rejected answers told apart one by one, against what is usual by now."),
        {"beta": _beta(0.01)},
        shift=True,
    ),
    "mpo": LossSpec(
        "MPO",
        _("Reasoning: which answer is better, how good each is by itself, and how to write the chosen one."),
        {
            "beta": _beta(),
            "preference_weight": LossSetting(0.8, 0.0, 1000.0, "w_p", _("weight of the preference"), above=True),
            "quality_weight": LossSetting(0.2, 0.0, 1000.0, "w_q", _("weight of the answers' own quality")),
            "generation_weight": LossSetting(
                1.0, 0.0, 1000.0, "w_g", _("weight of the chosen answer's loss per token")
            ),
        },
        shift=True,
    ),
    "sppo_hard": LossSpec(
        "SPPO",
        _("Round after round on fresh answers, a bounded step each: one answer up, the other down."),
        {"beta": _beta()},
    ),
    "rao_kupper": LossSpec(
        _("DPO with ties (Rao-Kupper)"),
        _("Reviewers call ties, and a tie means that they could not tell."),
        {
            "beta": _beta(),
            "nu": LossSetting(
                3.0, 1.0, 1e6, "ν", _("how readily people call a tie; towards 1 it becomes DPO"), above=True
            ),
        },
        signals=_PAIRWISE | {"tie"},
        divergence=True,
    ),
    "davidson": LossSpec(
        _("DPO with ties (Davidson)"),
        _("Reviewers call ties, and closeness to the reference matters."),
        {
            "beta": _beta(),
            "nu": LossSetting(
                1.0, 0.0, 1e6, "ν", _("how readily people call a tie; towards 0 it becomes DPO"), above=True
            ),
        },
        signals=_PAIRWISE | {"tie"},
        divergence=True,
    ),
    "plackett_luce": LossSpec(
        "Plackett-Luce",
        _("Whole rankings of three or more answers."),
        {"beta": _beta()},
        shape="rankings",
        signals=frozenset({"choice", "ranking"}),
    ),
}
"""The losses by name, in the order in which a form offers them."""

LOSS_SETTINGS: dict[str, dict[str, LossSetting]] = {name: loss.settings for name, loss in LOSSES.items()}

LOSS_ALIASES = {
    "dpo": "sigmoid",
    "odpo": "sigmoid",
    "slic": "hinge",
    "ipo_mean": "ipo",
    "exo": "exo_pair",
    "nca": "nca_pair",
    "bco": "bco_pair",
    "lrml": "discopop",
    "sppo": "sppo_hard",
    "sigmoid_norm": "length_normalised",
    "rpo": "dpo_nll",
}
"""Other names of the field. ODPO is DPO whose preferences carry margins, which every pairwise loss reads."""


def loss_options(loss: str) -> tuple[str, ...]:
    """The training settings beside ``loss_settings`` that only some losses read, as far as ``loss`` reads them."""
    spec = LOSSES[loss]
    return (
        *(("margin_scale",) if "margin" in spec.signals else ()),
        *(("pair_weighting",) if spec.shape == "pairs" else ()),
        *(("f_divergence", "f_divergence_alpha") if spec.divergence else ()),
        *(("reference_sync_steps", "reference_sync_alpha") if spec.reference else ()),
    )


def checked_loss(name: object, given: object) -> tuple[str, dict[str, float]]:
    """Canonical name of the loss and all the settings it reads, defaults filled in."""
    loss = LOSS_ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(loss, str) or loss not in LOSSES:
        raise SpecError(
            "loss", _("%(name)s is unknown; known are %(losses)s", name=repr(name), losses=", ".join(LOSSES))
        )
    if not isinstance(given, Mapping):
        raise SpecError("loss_settings", _("must be an object, not %(name)s", name=type(given).__name__))
    reads = LOSSES[loss].settings
    for setting in given:
        if setting not in reads:
            raise SpecError(
                f"loss_settings.{setting}",
                _(
                    "loss %(loss)s does not read it; it reads %(reads)s",
                    loss=repr(loss),
                    reads=", ".join(reads) or "none",
                ),
                beside="loss",
            )
    return loss, {
        setting: rule.check(f"loss_settings.{setting}", given.get(setting, rule.default))
        for setting, rule in reads.items()
    }
