"""The mean prediction of several networks. This module does not import torch."""

from collections.abc import Sequence

import numpy as np


def mean_probabilities(found: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of the probabilities of models, each float32 [texts, classes]."""
    return np.stack(found).mean(axis=0, dtype=np.float64).astype(np.float32)
