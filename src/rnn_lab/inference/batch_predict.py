"""From token ids to the probability of every class."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from rnn_lab.data.readers.records import BadRow, Record
from rnn_lab.inference.load import LoadedModel

WINDOW = 4096  # records held at once: enough to batch by length, whatever the length of the input
WINDOW_TOKENS = 2**22  # of them together, but for the last: 32 MiB, where texts are kept whole


# The line of a row, its own id, and the ids of its tokens or why it has none.
_Encoded = tuple[int, str | int | None, np.ndarray | str]


class Prediction(NamedTuple):
    """What became of one row of the input: probabilities [classes], or the error."""

    line: int
    id: str | int | None  # the row's own, where it has one
    probabilities: np.ndarray | None
    error: str | None = None


def classify(run: LoadedModel, reviews: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """Class probabilities, float32 [reviews, classes], of reviews given as token ids.

    Batches hold reviews of about the same length, so that little is computed on padding.
    """
    device = next(run.model.parameters()).device
    probabilities = np.empty((len(reviews), len(run.class_names)), dtype=np.float32)
    order = np.argsort([len(review) for review in reviews], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = [torch.from_numpy(reviews[row]) for row in rows]
            lengths = torch.tensor([len(review) for review in batch])
            tokens = pad_sequence(batch, batch_first=True)  # [batch, time]
            logits = run.model(tokens.to(device), lengths.to(device))  # [batch, classes]
            probabilities[rows] = logits.softmax(dim=1).cpu().numpy()
    return probabilities


def _windows(rows: Iterable[_Encoded]) -> Iterator[list[_Encoded]]:
    window: list[_Encoded] = []
    tokens = 0
    for row in rows:
        window.append(row)
        tokens += len(row[2])
        if len(window) == WINDOW or tokens >= WINDOW_TOKENS:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def predict_rows(
    run: LoadedModel, rows: Iterable[Record | BadRow], batch_size: int
) -> Iterator[Prediction]:
    """Yield one Prediction for each row, in order, holding one window of rows at a time."""
    # A text becomes its ids as it is read, and a copy of those that are kept frees the others: a
    # window of long texts stays small.
    encoded: Iterator[_Encoded] = (
        (row.line, None, row.reason)
        if isinstance(row, BadRow)
        else (row.line, row.id, run.text_encoder.encode(row.text).copy())
        for row in rows
    )
    for window in _windows(encoded):
        reviews = [review for *_, review in window if not isinstance(review, str)]
        answers = iter(classify(run, reviews, batch_size))
        for line, name, review in window:
            if isinstance(review, str):
                yield Prediction(line, name, None, review)
            else:
                yield Prediction(line, name, next(answers))
