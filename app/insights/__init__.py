"""Figures over several rooms at once."""
