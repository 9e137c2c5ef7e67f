"""Benchmarks: every number in benchmarks/README.md has its command here."""
