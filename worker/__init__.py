"""The worker: jobs, the sampling engine and the trainer."""
