"""Hone's sampling engine: an OpenAI-compatible server on transformers, for one machine."""
