"""What predicting needs of a run, whether torch computes it or ONNX Runtime.

This module does not import torch: an .onnx file is read without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rnn_lab.data.corpus import Task
from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.data.text_encoder import TextEncoder

FLOAT32, BFLOAT16 = "32-true", "bf16-mixed"  # of the option `precision`, as Lightning names them
DEFAULT_SEPARATOR = ";"  # of several labels in one cell of a table


class Predictor(ABC):
    """A network ready to predict, or several, and what their input needs."""

    class_names: tuple[str, ...]
    path: Path  # of the file that it was loaded from, or the folder of several
    read_info: ReadInfo | None  # how the files of its training texts were read

    @property
    @abstractmethod
    def cell(self) -> str:
        """The name of its cell: model.name."""

    @property
    @abstractmethod
    def thresholds(self) -> np.ndarray | None:
        """Where a text has any number of labels, the threshold of each, float32 [classes]."""

    @property
    @abstractmethod
    def label_separator(self) -> str:
        """What joins several labels in one cell of a table."""

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Return the ids of one text as `probabilities` takes them, int64 [length]."""

    @abstractmethod
    def probabilities(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities, float32 [texts, classes], of one batch of ids, int64 [length].

        Those of a text do not depend on the other texts.
        """

    @property
    def task(self) -> Task:
        """Whether it predicts one label a text or any number of them."""
        return "multiclass" if self.thresholds is None else "multilabel"

    def predicted(self, probabilities: np.ndarray) -> tuple[str, ...]:
        """Return the labels that it predicts with these probabilities [classes], in their order.

        That is the most probable class, or every label whose probability is at least its threshold.
        """
        if self.thresholds is None:
            return (self.class_names[int(probabilities.argmax())],)
        found = np.flatnonzero(probabilities >= self.thresholds)
        return tuple(self.class_names[label] for label in found)


class SingleModel(Predictor):
    """One network ready to predict."""

    text_encoder: TextEncoder

    @property
    @abstractmethod
    def temperature(self) -> float:
        """What logits are divided by, so that probabilities are calibrated; 1.0: they are not."""

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of one text, int64 [1 <= length <= max_length]."""
        return self.text_encoder.encode(text)
