"""Files: atomic writes, locks, untrusted checkpoints, secrets."""
