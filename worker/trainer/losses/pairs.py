"""What a pairwise loss reads: one row per preference, summed over completion tokens, end token included."""

from dataclasses import dataclass, replace

from torch import Tensor

from worker.trainer.losses.divergences import Divergence


@dataclass(frozen=True, slots=True)
class Side:
    """Completions of a batch, one a row: the chosen or the rejected ones of preferences, or those that have a label."""

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
    policy_token_collision: Tensor | None = None
    """(batch, longest), nats: log Σ_v π_θ(v)² at every token, 0 beyond the end, no gradient; where WPO asks for it."""
    divergence: Divergence | None = None
    """What makes scores of log-ratios; None: the reverse KL, whose scores are the log-ratios."""

    @property
    def log_ratio(self) -> Tensor:
        """(batch,), nats: ρ = log π_θ(y|x) − log π_ref(y|x)."""
        return self.policy_logp_sum - self.reference_logp_sum

    @property
    def score(self) -> Tensor:
        """(batch,): f'(π_θ/π_ref), which times β is the reward of f-DPO; ρ where no other divergence is set."""
        return self.log_ratio if self.divergence is None else self.divergence(self.log_ratio)

    @property
    def mean_logp(self) -> Tensor:
        """(batch,), nats a token: ℓ/|y|."""
        return self.policy_logp_sum / self.length


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch of preferences: what was chosen, what was rejected, and how strongly."""

    chosen: Side
    rejected: Side
    margin: Tensor
    """(batch,), nats in the scale of the loss's argument: δ, by how much more than 0 the chosen one has to win."""
    tie: Tensor | None = None
    """(batch,), bool: neither is better, and the sides may stand either way round; None: there are no ties."""
    shift: Tensor | None = None
    """(), nats: s, the mean ρ of the answers of earlier steps, chosen and rejected alike; no gradient; None: 0."""

    @property
    def delta(self) -> Tensor:
        """(batch,), nats: Δ = ρ_w − ρ_l."""
        return self.chosen.log_ratio - self.rejected.log_ratio

    @property
    def score_delta(self) -> Tensor:
        """(batch,): the difference of the sides' scores; Δ where no other divergence is set."""
        return self.chosen.score - self.rejected.score

    def under(self, divergence: Divergence | None) -> "Pairs":
        """The same with scores of another divergence."""
        return replace(
            self,
            chosen=replace(self.chosen, divergence=divergence),
            rejected=replace(self.rejected, divergence=divergence),
        )
