"""Launchers that start processes."""
