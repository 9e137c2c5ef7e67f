"""Read the files of an explanation, explanation.json and states.npz, into one object."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.io.atomic import read_text
from rnn_lab.reports.formatting import format_cell

ValueKind = Literal["gate", "candidate", "state"]


@dataclass(frozen=True)
class CellValue:
    """What a value of a cell is: a gate (0 to 1), a candidate or a state, and its symbol."""

    name: str  # in states.npz
    kind: ValueKind
    symbol: str  # TeX, as in the equations of the cell: "f", r"\tilde{C}"

    def __post_init__(self) -> None:
        if self.kind not in get_args(ValueKind) or not isinstance(self.symbol, str):
            raise ValueError(f"value {self.name}: unknown kind {self.kind!r}")

    @property
    def title(self) -> str:
        """The name of a state in a sentence: "cell state", "hidden state" or "state s"."""
        known = {"h": "hidden state", "C": "cell state"}
        return known.get(self.name, f"{self.kind} {self.name}")


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


@dataclass(frozen=True)
class Direction:
    """One direction of one layer: every gate and state, float32 [time, hidden] in token order."""

    layer: int
    backward: bool
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Explanation:
    """One explained prediction. `time` is the number of tokens read, in the order of the text."""

    run: str
    model: dict[str, Any]
    class_names: tuple[str, ...]
    vocab_size: int
    max_length: int
    text: str
    words: tuple[Word, ...]
    probabilities: np.ndarray  # float64 [time, classes], after the first 1, 2, ... tokens
    attributions: np.ndarray  # float64 [time]
    logit_difference: float  # of the predicted class to the mean of the others
    baseline_logit_difference: float  # the same for padding alone
    steps: int  # of the integration
    values: dict[str, CellValue]  # in the order in which the cell computes them
    directions: tuple[Direction, ...]

    @property
    def predicted(self) -> int:
        """The index of the predicted class."""
        return int(self.probabilities[-1].argmax())

    @property
    def prediction(self) -> str:
        """The name of the predicted class."""
        return self.class_names[self.predicted]

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
    def states(self) -> list[CellValue]:
        """The states that the cell passes on to the next time step."""
        return [value for value in self.values.values() if value.kind == "state"]

    @property
    def memory(self) -> CellValue:
        """The state that carries what was read: the first one computed, an LSTM's cell state."""
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


def read_explanation(folder: Path) -> Explanation:
    """Read explanation.json and states.npz in `folder`.

    Raises:
        CheckpointError: a file is missing or damaged; names it.
    """
    path = folder / "explanation.json"
    try:
        content = json.loads(read_text(path))
        words = tuple(Word(w["word"], w["start"], w["stop"], w["known"]) for w in content["words"])
        values = {name: CellValue(name, **value) for name, value in content["values"].items()}
        content |= {"words": words, "class_names": tuple(content["class_names"]), "values": values}
        for name in ("probabilities", "attributions"):
            content[name] = np.array(content[name], dtype=np.float64)
        path = folder / "states.npz"
        with np.load(path, allow_pickle=False) as states:
            arrays = {name: states[name] for name in states.files}
        return Explanation(**content, directions=_read_directions(arrays, values))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; is this the output folder of an explanation?"
        ) from None
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: not a valid explanation: {reason}") from None


def _read_directions(
    arrays: dict[str, np.ndarray], values: dict[str, CellValue]
) -> tuple[Direction, ...]:
    found: dict[tuple[int, bool], dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, direction, value = name.split("_", 2)
        found.setdefault((int(layer), direction == "backward"), {})[value] = array
    for of_direction in found.values():
        if set(of_direction) != set(values):
            raise ValueError(f"values {', '.join(of_direction)}, expected {', '.join(values)}")
    return tuple(Direction(*key, of_direction) for key, of_direction in found.items())
