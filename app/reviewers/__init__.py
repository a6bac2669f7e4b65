"""Reviewer quality: what the votes say of those who gave them, pairs with a known answer, and quarantine."""
