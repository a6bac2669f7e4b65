"""Rounds: the jobs that make versions."""
