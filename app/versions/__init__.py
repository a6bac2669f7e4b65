"""Versions: the models that rounds made, on disk and in the database."""
