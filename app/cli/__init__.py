"""The command ``hone``."""

from app.cli.root import main

__all__ = ["main"]
