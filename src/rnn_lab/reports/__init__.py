"""Reads what finished runs left on disk; draws plots and tables."""
