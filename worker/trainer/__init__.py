"""The trainer: pure torch, one job directory in, one version directory out. No database, no broker, no HTTP."""
