"""The test reviews that a model got most wrong: the first place to look for what it misses."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_lab.reports.run_files import read_predictions


class HighLossExample(NamedTuple):
    """One review of the test split."""

    name: str  # where it came from
    label: str
    prediction: str
    probability: float  # that the model gave its prediction
    loss: float  # cross-entropy in nats


def top_losses(run_folder: Path, n: int) -> list[HighLossExample]:
    """Return the `n` test reviews of highest loss (or as many as there are), highest first."""
    test = read_predictions(run_folder)
    return [
        HighLossExample(
            test.names[i],
            test.class_names[test.labels[i]],
            test.class_names[test.predicted[i]],
            float(test.probabilities[i, test.predicted[i]]),
            float(test.losses[i]),
        )
        for i in np.argsort(-test.losses, kind="stable")[:n]
    ]
