"""Searches with Optuna: hydra/sweeper=optuna."""
