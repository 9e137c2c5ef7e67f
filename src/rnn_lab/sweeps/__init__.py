"""Many runs: what a job is known by, what becomes of it, and what is tried next."""
