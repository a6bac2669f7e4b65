"""The losses as settings: their names, and every number each one reads. ``worker.trainer.losses`` has the functions."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.rounds.spec.checks import SpecError, number


@dataclass(frozen=True, slots=True)
class LossSetting:
    """One number a loss reads: its default, its closed range (open at 0 where ``positive``), and its meaning."""

    default: float
    low: float
    high: float
    meaning: str
    positive: bool = False

    def check(self, name: str, value: object) -> float:
        """``value`` as a float in range.

        Raises:
            SpecError: it is not a finite number, or out of range.
        """
        given = number(name, value)
        if not self.low <= given <= self.high or (self.positive and given <= 0):
            low = f"above {self.low:g}" if self.positive else f"at least {self.low:g}"
            raise SpecError(name, f"{given:g} is out of range; use {low} and at most {self.high:g} ({self.meaning})")
        return given


def _beta(default: float) -> LossSetting:
    return LossSetting(default, 0.0, 100.0, "β: how strongly the policy is held to the reference", positive=True)


LOSS_SETTINGS: dict[str, dict[str, LossSetting]] = {
    "sigmoid": {"beta": _beta(0.1)},
    "dpop": {
        "beta": _beta(0.3),
        "dpop_lambda": LossSetting(50.0, 0.0, 10_000.0, "λ: weight of the penalty on a chosen answer that falls"),
    },
}
"""The losses by name, with every setting each one reads. ``worker.trainer.losses`` holds their functions."""

LOSS_ALIASES = {"dpo": "sigmoid"}


def checked_loss(name: object, given: object) -> tuple[str, dict[str, float]]:
    """Canonical name of the loss and all the settings it reads, defaults filled in."""
    loss = LOSS_ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(loss, str) or loss not in LOSS_SETTINGS:
        raise SpecError("loss", f"{name!r} is unknown; known are {', '.join(LOSS_SETTINGS)}")
    if not isinstance(given, Mapping):
        raise SpecError("loss_settings", f"must be an object, not {type(given).__name__}")
    reads = LOSS_SETTINGS[loss]
    for setting in given:
        if setting not in reads:
            raise SpecError(
                f"loss_settings.{setting}", f"loss {loss!r} does not read it; it reads {', '.join(reads) or 'none'}"
            )
    return loss, {
        setting: rule.check(f"loss_settings.{setting}", given.get(setting, rule.default))
        for setting, rule in reads.items()
    }
