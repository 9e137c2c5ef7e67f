"""The test examples with the highest loss: where to look first for what a model misses."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_lab.reports.run_files import read_predictions


class HighLossExample(NamedTuple):
    """One example of the test split."""

    name: str  # where it came from: file and line
    label: str
    prediction: str
    probability: float  # of the prediction
    loss: float  # cross-entropy in nats


def top_losses(run_folder: Path, n: int) -> list[HighLossExample]:
    """Return the `n` test examples with the highest loss, or all if there are fewer."""
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
