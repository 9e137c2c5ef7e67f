"""Labelled texts, wherever they come from."""
