"""Preferences: what training reads out of votes; snapshots of them, and exports."""
