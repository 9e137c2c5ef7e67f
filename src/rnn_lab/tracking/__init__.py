"""Experiment tracking: metrics.csv, Weights & Biases, TensorBoard."""
