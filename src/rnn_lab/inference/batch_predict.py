"""Predict class probabilities in batches, from token ids or from a stream of rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_lab.data.readers.records import BadRow, Record
from rnn_lab.inference.prediction_files import RowPrediction, kept_characters
from rnn_lab.inference.predictor import Predictor
from rnn_lab.iteration import batched

WINDOW = 4096  # rows held at once: enough to batch by length, however long the input is
WINDOW_TOKENS = 2**22  # tokens of a window, except for its last row: 32 MiB
_CHARACTERS_PER_TOKEN = 4  # of the columns kept, in the same memory as the ids of tokens


class _Encoded(NamedTuple):
    """A row: the ids of its tokens, or the reason why it has none."""

    line: int
    id: str | int | None
    text: np.ndarray | str
    columns: Mapping[str, Any] | None = None


def classify(run: Predictor, texts: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """Return the class probabilities, float32 [texts, classes], of texts given as token ids.

    A batch holds texts of similar length, so that little is computed on padding.
    """
    probabilities = np.empty((len(texts), len(run.class_names)), dtype=np.float32)
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        probabilities[rows] = run.probabilities([texts[row] for row in rows])
    return probabilities


def predict_rows(
    run: Predictor, rows: Iterable[Record | BadRow], batch_size: int
) -> Iterator[RowPrediction]:
    """Yield one RowPrediction for each row, in order; at most one window of rows is in memory."""
    # Each text is replaced by a copy of its ids as it is read: a window of long texts stays small.
    encoded: Iterator[_Encoded] = (
        _Encoded(row.line, row.id, row.reason, row.columns)
        if isinstance(row, BadRow)
        else _Encoded(row.line, row.id, run.encode(row.text).copy(), row.columns)
        for row in rows
    )
    for window in _windows(encoded):
        texts = [row.text for row in window if not isinstance(row.text, str)]
        predicted = iter(classify(run, texts, batch_size))
        for line, name, text, columns in window:
            if isinstance(text, str):
                yield RowPrediction(line, name, None, text, columns)
            else:
                probabilities = next(predicted)
                labels = run.predicted(probabilities)
                yield RowPrediction(line, name, probabilities, None, columns, labels)


def _windows(rows: Iterable[_Encoded]) -> Iterator[list[_Encoded]]:
    return batched(rows, WINDOW, _tokens, WINDOW_TOKENS)


def _tokens(row: _Encoded) -> int:
    """Return the number of tokens with as much memory as the row."""
    return len(row.text) + kept_characters(row.columns) // _CHARACTERS_PER_TOKEN
