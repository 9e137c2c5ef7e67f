"""Speed beside peers: every figure of benchmarks/README.md has its command here."""
