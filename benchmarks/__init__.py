"""Benchmarks: every number in benchmarks/README.md has its command here."""

import os

# As in commands. torch reads it with the first tensor, which importing Lightning makes.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
