"""Reviews -> tokens -> ids -> batches. Knows nothing of models."""
