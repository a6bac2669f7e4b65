"""Comparisons: two blind answers to one prompt, reviewers' leases on them, and their votes."""
