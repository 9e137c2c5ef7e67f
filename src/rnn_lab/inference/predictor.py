"""What predicting needs of a run, whether torch computes it or ONNX Runtime.

This module does not import torch: an .onnx file is read without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rnn_lab.data.corpus import Task
from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.errors import ConfigError

if TYPE_CHECKING:
    from rnn_lab.inference.explanation import Explanation

FLOAT32, BFLOAT16 = "32-true", "bf16-mixed"  # of the option `precision`, as Lightning names them
DEFAULT_SEPARATOR = ";"  # of several labels in one cell of a table


class Predictor(ABC):
    """A network ready to predict, or several, and what their input needs."""

    class_names: tuple[str, ...]
    path: Path  # of the file that it was loaded from, or the folder of several
    read_info: ReadInfo | None  # how the files of its training texts were read
    can_explain: bool = False

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

    def explain(self, text: str, label: str | None = None) -> "Explanation":
        """Explain the prediction for one text.

        `label` is the class to explain, predicted or not; None: the most probable one.

        Raises:
            ConfigError: it has no such class, or it only predicts.
        """
        raise ConfigError(f"{self.path}: only predicts")

    @property
    def is_multilabel(self) -> bool:
        """Whether it predicts any number of labels a text, not one."""
        return self.thresholds is not None

    @property
    def task(self) -> Task:
        """The name of its task: whether it predicts one label a text or any number of them."""
        return "multilabel" if self.is_multilabel else "multiclass"

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

    def explainer(self) -> "SingleModel":
        """Return a model that explains in one thread while this one predicts in another."""
        return self
