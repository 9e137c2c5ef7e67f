"""Files: atomic writes, locks, untrusted checkpoints, the secret scan, the schema version."""
