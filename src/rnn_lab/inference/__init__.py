"""Use a trained run: load it, test it, predict, explain, export."""
