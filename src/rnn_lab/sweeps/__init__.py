"""Sweeps: the names, launchers, searches and summaries of their jobs."""
