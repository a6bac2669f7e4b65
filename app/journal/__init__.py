"""What is to be sent once a transaction has committed (outbox), and who did what (audit)."""
