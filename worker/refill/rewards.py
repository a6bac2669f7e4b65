"""The implicit reward of answers under the current version, measured when they are sampled.

r = beta (log pi(y|x) - log ref(y|x)), nats, up to a constant of the prompt (arXiv:2305.18290, eq. 5): two prefills by
the engine an answer. Losses that read log-probs by the token have their log-ratio divided by the tokens as well. Those
that ask no reference have rewards of the policy alone: SimPO beta times its mean log-prob (arXiv:2405.14734, eq. 4),
ORPO the log-odds of that mean (arXiv:2403.07691, eq. 5).
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from app.engine.client import EngineClient, EngineNonsense, EngineRefused
from app.engine.pushing import push
from worker.refill.answers import Answer

logger = logging.getLogger(__name__)

PER_TOKEN = frozenset({"length_normalised", "ipo"})
"""Losses whose reward is the mean over tokens rather than the sum."""

_BETA = 0.1
_LIKELIEST = -1e-7
"""Mean log-prob, nats: above it the odds of an answer are no number any more."""


class Rewards:
    """Measures answers of one version against its reference. Thread-safe."""

    def __init__(
        self,
        engine: EngineClient,
        versions_dir: Path,
        version_id: UUID,
        reference_id: UUID | None,
        training: Mapping[str, Any],
    ) -> None:
        """``training``: the settings of the round that made the version, for beta and how the loss reads log-probs."""
        self._engine = engine
        self._versions_dir = versions_dir
        self._version_id = version_id
        self._reference_id = reference_id
        settings = training.get("loss_settings") or {}
        beta = settings.get("beta", settings.get("tau", _BETA))
        self._beta = float(beta) if isinstance(beta, int | float) else _BETA
        self._loss = training.get("loss")

    def measure(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers with ``scores``; those that have them, or cannot have any, as they are.

        An engine that cannot give log-probs is no reason not to sample: such answers say so in their scores.

        Raises:
            EngineUnavailable: try again later.
        """
        return [self._measure(answer) for answer in answers]

    def _measure(self, answer: Answer) -> Answer:
        if answer.scores or self._reference_id is None or answer.version_id != self._version_id:
            return answer
        try:
            policy = sum(self._logprobs(self._version_id, answer))
            alone = _of_policy_alone(self._loss, self._beta, policy / max(1, len(answer.ids)))
            if alone is not None:
                return replace(answer, scores={"logp": policy, "beta": self._beta, "reward": alone})
            reference = sum(self._logprobs(self._reference_id, answer))
        except (EngineRefused, EngineNonsense) as error:
            logger.warning("an answer's reward could not be measured: %s", error)
            return replace(answer, scores={"unmeasured": str(error)[:300]})
        size = len(answer.ids) if self._loss in PER_TOKEN else 1
        return replace(
            answer,
            scores={
                "logp": policy,
                "reference_logp": reference,
                "reference": str(self._reference_id),
                "beta": self._beta,
                "reward": self._beta * (policy - reference) / size,
            },
        )

    def _logprobs(self, version_id: UUID, answer: Answer) -> list[float]:
        model = str(version_id)
        try:
            return self._engine.logprobs(model, answer.prompt_ids, answer.ids)
        except EngineRefused as refusal:
            if refusal.code != "model_not_found":
                raise
            push(self._engine, self._versions_dir, version_id)
            return self._engine.logprobs(model, answer.prompt_ids, answer.ids)


def _of_policy_alone(loss: object, beta: float, mean_logp: float) -> float | None:
    """The reward of a loss that asks no reference, nats; null for all others."""
    if loss == "simpo":
        return beta * mean_logp
    if loss == "orpo":
        kept = min(mean_logp, _LIKELIEST)
        return kept - math.log(-math.expm1(kept))
    return None
