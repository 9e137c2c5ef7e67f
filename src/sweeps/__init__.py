"""Many runs: what a job is known by, and what becomes of it."""
