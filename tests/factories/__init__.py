"""Makers of rows for tests: small, seeded, and honest about every column."""
