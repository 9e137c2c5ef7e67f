"""Read the files of an explanation, explanation.json and states.npz, into one object."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from rnn_lab.errors import CheckpointError, first_line
from rnn_lab.io.atomic import read_text
from rnn_lab.reports.formatting import format_cell

ValueKind = Literal["gate", "candidate", "state"]


@dataclass(frozen=True)
class CellValue:
    """How a cell describes one of the values that it computes at each step."""

    kind: ValueKind
    title: str  # "forget gate $f$: how much a cell keeps", the symbol in TeX
    ends: Sequence[str] = ("closed", "open")  # what a gate does at 0 and at 1

    def __post_init__(self) -> None:
        are_texts = all(isinstance(text, str) for text in (self.title, *self.ends))
        if self.kind not in get_args(ValueKind) or len(self.ends) != 2 or not are_texts:
            raise ValueError(f"impossible value of a cell: {self}")

    @property
    def name(self) -> str:
        """The title without the symbol and all after it: "forget gate"."""
        return re.split(r"\s*[$:]", self.title, maxsplit=1)[0]


@dataclass(frozen=True)
class Word:
    """One word of the text: one token, or several subwords."""

    text: str
    start: int  # of its tokens among those that the model read
    stop: int
    known: bool  # False: replaced by <unk>

    @property
    def read(self) -> bool:
        """Whether the model read the word: False for one that was truncated."""
        return self.start < self.stop

    @property
    def middle(self) -> float:
        """The position of the middle of its tokens."""
        return (self.start + self.stop - 1) / 2


@dataclass(frozen=True)
class Direction:
    """One direction of one layer: every gate and state, float32 [time, hidden] in token order."""

    layer: int
    backward: bool
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class ExplanationData:
    """What the files of an explanation contain. `time` is the tokens read, in the text's order."""

    run: str
    model: dict[str, Any]
    class_names: tuple[str, ...]
    vocab_size: int
    max_length: int
    text: str
    words: tuple[Word, ...]
    probabilities: np.ndarray  # float64 [time, classes], after the first 1, 2, ... tokens
    attributions: np.ndarray  # float64 [time]
    # Of the explained class to the mean of the others, or its logit: see `thresholds`.
    logit_difference: float
    baseline_logit_difference: float  # the same for padding alone
    steps: int  # of the integration
    values: dict[str, CellValue]  # by their keys in states.npz, in the order of computation
    directions: tuple[Direction, ...]
    target: int | None = None  # the index of the explained class; None: the most probable one
    thresholds: Sequence[float] | None = None  # of the labels, if a text has any number of them
    temperature: float = 1.0  # by which logits are divided before they become probabilities

    @property
    def explained(self) -> int:
        """The index of the explained class."""
        return int(self.probabilities[-1].argmax()) if self.target is None else self.target

    @property
    def explained_name(self) -> str:
        """The name of the explained class."""
        return self.class_names[self.explained]

    @property
    def explained_probability(self) -> float:
        """Its probability for the whole text."""
        return float(self.probabilities[-1, self.explained])

    @property
    def labels(self) -> list[str]:
        """The names of the predicted class, or of any number of predicted labels."""
        last = self.probabilities[-1]
        if self.thresholds is None:
            return [self.class_names[last.argmax()]]
        # The probabilities are written as float32, and so are the thresholds.
        is_predicted = last.astype(np.float32) >= np.array(self.thresholds, dtype=np.float32)
        return [self.class_names[label] for label in np.flatnonzero(is_predicted)]

    @property
    def is_predicted(self) -> bool:
        """Whether the explained class is the prediction, or all of it."""
        return self.labels == [self.explained_name]

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Every class and its probability, the most probable first."""
        order = np.argsort(-self.probabilities[-1], kind="stable")
        return [(self.class_names[i], float(self.probabilities[-1, i])) for i in order]

    @cached_property
    def words_read(self) -> list[Word]:
        """The words that the model read, whole or in part."""
        return [word for word in self.words if word.read]

    @cached_property
    def word_attributions(self) -> np.ndarray:
        """The contribution of each word read to the logit difference: float64 [words read]."""
        return np.array([self.attributions[w.start : w.stop].sum() for w in self.words_read])

    @property
    def states(self) -> list[str]:
        """The keys of the states, which the cell passes on to the next time step."""
        return [key for key, value in self.values.items() if value.kind == "state"]

    @property
    def memory(self) -> str:
        """The key of the state that holds what was read: the first computed, an LSTM's C."""
        return self.states[0]

    def describe(self, direction: Direction) -> str:
        """Return "the LSTM", with layer and direction if it has several."""
        name = f"the {format_cell(self.model['name'])}"
        layers = self.model["num_layers"]
        layer = f"layer {direction.layer + 1} of {layers}" if layers > 1 else ""
        reading = "right to left" if direction.backward else "left to right"
        side = f"reading {reading}" if self.model["bidirectional"] else ""
        return ", ".join(filter(None, (name, layer, side)))

    @property
    def completeness_error(self) -> float:
        """The relative difference between the attributions' sum and what it should be."""
        difference = self.logit_difference - self.baseline_logit_difference
        gap = abs(float(self.attributions.sum()) - difference)
        return gap / abs(difference) if difference else float("inf")


def read_explanation(folder: Path) -> ExplanationData:
    """Read explanation.json and states.npz in `folder`.

    Raises:
        CheckpointError: a file is missing or damaged; names it.
    """
    path = folder / "explanation.json"
    try:
        about = json.loads(read_text(path))
        path = folder / "states.npz"
        with np.load(path, allow_pickle=False) as file:
            states = {name: file[name] for name in file.files}
        path = folder / "explanation.json"
        return parse_explanation(about, states)
    except FileNotFoundError:
        hint = "is this the output folder of an explanation?"
        raise CheckpointError(f"{path}: no such file; {hint}") from None
    except Exception as error:  # a damaged file can fail anywhere in the readers
        message = f"{path}: not a valid explanation: {first_line(error)}"
        raise CheckpointError(message) from None


def parse_explanation(
    about: Mapping[str, Any], states: Mapping[str, np.ndarray]
) -> ExplanationData:
    """Return the explanation that `about`, as in explanation.json, and `states` describe.

    Raises:
        Exception: of any kind, if a part is missing or does not fit the others.
    """
    content = dict(about)
    words = tuple(Word(w["word"], w["start"], w["stop"], w["known"]) for w in content["words"])
    values = {key: CellValue(**value) for key, value in content["values"].items()}
    content |= {"words": words, "class_names": tuple(content["class_names"]), "values": values}
    for name in ("probabilities", "attributions"):
        content[name] = np.array(content[name], dtype=np.float64)
    return ExplanationData(**content, directions=_read_directions(states, values))


def _read_directions(
    arrays: Mapping[str, np.ndarray], values: dict[str, CellValue]
) -> tuple[Direction, ...]:
    if not any(value.kind == "state" for value in values.values()):
        raise ValueError("no state among the values of the cell")
    found: dict[tuple[int, bool], dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, direction, key = name.split("_", 2)
        found.setdefault((int(layer), direction == "backward"), {})[key] = array
    for of_direction in found.values():
        if set(of_direction) != set(values):
            raise ValueError(f"values {', '.join(of_direction)}, expected {', '.join(values)}")
    return tuple(Direction(*key, of_direction) for key, of_direction in found.items())
