"""The files of an explanation, which explain.py left in a folder, read into one object."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rnn_lab.errors import CheckpointError


@dataclass(frozen=True)
class Word:
    """One word as the network read it: one token, or several subwords."""

    text: str
    start: int  # of its tokens among those that were read
    stop: int
    known: bool  # False: read as <unk>

    @property
    def read(self) -> bool:
        """False for a word that was cut off."""
        return self.start < self.stop


@dataclass(frozen=True)
class Direction:
    """One direction of one layer: every gate and state, float32 [time, hidden] in token order."""

    layer: int
    backward: bool
    values: dict[str, np.ndarray]

    @property
    def memory(self) -> np.ndarray:
        """The state that carries what was read: an LSTM's cell, else the hidden state."""
        return self.values.get("C", self.values["h"])


@dataclass(frozen=True)
class Explanation:
    """One verdict: `time` is the tokens read, in the order of the text."""

    run: str
    model: dict[str, Any]
    values: dict[str, dict[str, Any]]  # kind, title and ends of each value of the cell
    class_names: tuple[str, ...]
    vocab_size: int
    max_length: int
    text: str
    words: tuple[Word, ...]
    probabilities: np.ndarray  # float64 [time, classes], of the first 1, 2, ... tokens
    attributions: np.ndarray  # float64 [time]
    logit_difference: float  # of the predicted class against the mean of the others
    baseline_logit_difference: float  # the same for padding
    steps: int  # of the integration
    directions: tuple[Direction, ...]

    @property
    def predicted(self) -> int:
        """The index of the predicted class."""
        return int(self.probabilities[-1].argmax())

    @property
    def verdict(self) -> str:
        """The name of the predicted class."""
        return self.class_names[self.predicted]

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Each class and its probability, the most probable first."""
        order = np.argsort(-self.probabilities[-1], kind="stable")
        return [(self.class_names[i], float(self.probabilities[-1, i])) for i in order]

    @cached_property
    def words_read(self) -> list[Word]:
        """The words that the network read, whole or in part."""
        return [word for word in self.words if word.read]

    @cached_property
    def moved(self) -> np.ndarray:
        """How much each word read moved the logit difference: float64 [words read]."""
        return np.array([self.attributions[w.start : w.stop].sum() for w in self.words_read])

    def name_of(self, direction: Direction) -> str:
        """Return "the LSTM", or which of its layers and directions it is."""
        name = f"the {self.model['name'].upper()}"
        layers = self.model["num_layers"]
        layer = f"layer {direction.layer + 1} of {layers}" if layers > 1 else ""
        reading = "right to left" if direction.backward else "left to right"
        side = f"reading {reading}" if self.model["bidirectional"] else ""
        return ", ".join(filter(None, (name, layer, side)))

    @property
    def completeness_error(self) -> float:
        """How far the attributions' sum is from the difference they share out, relative to it."""
        difference = self.logit_difference - self.baseline_logit_difference
        gap = abs(float(self.attributions.sum()) - difference)
        return gap / abs(difference) if difference else float("inf")


def read_explanation(folder: Path) -> Explanation:
    """Read explanation.json and states.npz.

    Raises:
        CheckpointError: a file is absent or is not what explain.py writes; names it.
    """
    path = folder / "explanation.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        words = tuple(Word(w["word"], w["start"], w["stop"], w["known"]) for w in about["words"])
        about |= {"words": words, "class_names": tuple(about["class_names"])}
        for name in ("probabilities", "attributions"):
            about[name] = np.array(about[name], dtype=np.float64)
        path = folder / "states.npz"
        with np.load(path, allow_pickle=False) as states:
            values = {name: states[name] for name in states.files}
        return Explanation(**about, directions=_directions(values))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a folder of explain.py?") from None
    except Exception as error:  # a damaged file can fail anywhere in the readers
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: not a whole file of explain.py: {reason}") from None


def _directions(values: dict[str, np.ndarray]) -> tuple[Direction, ...]:
    gates: dict[tuple[int, bool], dict[str, np.ndarray]] = {}
    for name, value in values.items():
        layer, direction, gate = name.split("_", 2)
        gates.setdefault((int(layer), direction == "backward"), {})[gate] = value
    return tuple(Direction(*place, of_place) for place, of_place in gates.items())
