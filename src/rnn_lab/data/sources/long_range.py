"""Synthetic texts whose label is their first word, followed by a given number of random words.

A network must remember one bit over `distance` words without information: the latching problem of
Bengio, Simard and Frasconi (1994). The random words have the same distribution under both labels,
so that a model which forgets the first word cannot do better than chance.
"""

import random
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.options import TextOptions
from rnn_lab.data.sources.registry import register_source

SIGNALS = ("heads", "tails")  # the first word of a text, and its label
FILLERS = ("the", "film", "was", "an", "actor", "spoke", "then", "ended")


class LongRangeConfig(TextOptions):
    """The options of long_range. conf/data/long_range.yaml explains each."""

    fits_size: ClassVar = False

    source: Literal["long_range"] = "long_range"
    distance: Annotated[int, Field(ge=5)] = 100
    num_train: Annotated[int, Field(ge=20, le=10_000)] = 2_000
    num_test: Annotated[int, Field(ge=20, le=10_000)] = 1_000
    data_seed: int = 0
    val_split: Literal["stratified", "random"] = "stratified"
    max_length: PositiveInt = 10_001

    @model_validator(mode="after")
    def _signal_is_kept(self) -> Self:
        if self.max_length <= self.distance:
            raise ValueError(
                f"data.max_length={self.max_length}: cuts off the signal word; "
                f"data.distance={self.distance} needs {self.distance + 1} or more"
            )
        return self


@register_source("long_range", LongRangeConfig)
def load_long_range(config: LongRangeConfig) -> Corpus:
    """Generate texts of one signal and `distance` fillers, equal on every machine for one seed.

    Each text has distance + 1 words. The two labels are equally frequent in each split, no
    sequence of fillers occurs twice, and the test split does not depend on the number of training
    texts.
    """
    seen: set[str] = set()
    test = _make_split("test", config.num_test, config, seen)
    train = _make_split("train", config.num_train, config, seen)
    return Corpus(
        name="long_range",
        class_names=SIGNALS,
        train=train,
        test=test,
        synthetic=True,
    )


def _make_split(name: str, size: int, config: LongRangeConfig, seen: set[str]) -> Split:
    # Only `Random.random` is guaranteed to return the same numbers in every Python version.
    draw = random.Random(f"{name} {config.distance} {config.data_seed}").random
    texts: list[str] = []
    while len(texts) < size:
        words = [FILLERS[int(draw() * len(FILLERS))] for _ in range(config.distance)]
        fillers = " ".join(words)
        if fillers not in seen:
            seen.add(fillers)
            texts.append(f"{SIGNALS[len(texts) % 2]} {fillers}")
    labels = np.arange(size, dtype=np.int64) % 2
    return Split(texts, labels, names=[f"{name}/{number}" for number in range(size)])
