"""What a pairwise loss reads: one row per preference, summed over completion tokens, end token included."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Side:
    """The chosen or the rejected completions of a batch of preferences."""

    policy_logp_sum: Tensor
    """(batch,), nats: log π_θ(y|x), summed over the completion's tokens."""
    reference_logp_sum: Tensor
    """(batch,), nats: log π_ref(y|x), the same sum under the reference; no gradient."""
    length: Tensor
    """(batch,), tokens, as float."""
    policy_token_logp: Tensor
    """(batch, longest), nats; 0 beyond a completion's end."""
    reference_token_logp: Tensor
    """(batch, longest), nats; 0 beyond a completion's end."""

    @property
    def log_ratio(self) -> Tensor:
        """(batch,), nats: ρ = log π_θ(y|x) − log π_ref(y|x)."""
        return self.policy_logp_sum - self.reference_logp_sum


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch of preferences: what was chosen, what was rejected, and how strongly."""

    chosen: Side
    rejected: Side
    margin: Tensor
    """(batch,), nats: how much better the reviewers found the chosen one; read by losses with a margin."""

    @property
    def delta(self) -> Tensor:
        """(batch,), nats: Δ = ρ_w − ρ_l."""
        return self.chosen.log_ratio - self.rejected.log_ratio
