"""Filling a project's buffer of ready comparisons from its current version."""

from worker.refill.fill import refill

__all__ = ["refill"]
