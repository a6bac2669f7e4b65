"""Choosing pairs. A strategy is a class of one method (``options.Strategy``) and a line in ``BUILDERS``."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy.orm import Session

from app.projects.refilling import StrategyName
from worker.refill.strategies import history
from worker.refill.strategies.chance import Chance
from worker.refill.strategies.choose import Chosen, choose
from worker.refill.strategies.diversity import Diversity
from worker.refill.strategies.information import Information
from worker.refill.strategies.options import Option, Strategy
from worker.refill.strategies.uncertainty import Uncertainty

BUILDERS: dict[StrategyName, Callable[[Session, UUID], Strategy]] = {
    "random": lambda _db, _project: Chance(),
    "uncertainty": lambda _db, _project: Uncertainty(),
    "information": lambda db, project: Information(history.judged(db, project)),
    "diversity": lambda db, project: Diversity(history.compared(db, project)),
}
"""How each strategy of ``RefillSettings`` is made for a project, with what it looks back on."""


def build(db: Session, project_id: UUID, name: StrategyName) -> Strategy:
    """The strategy ``name`` as it stands now."""
    return BUILDERS[name](db, project_id)


__all__ = ["Chance", "Chosen", "Diversity", "Information", "Option", "Strategy", "Uncertainty", "build", "choose"]
