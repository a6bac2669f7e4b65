"""Prompts: conversations that versions are asked to continue."""
