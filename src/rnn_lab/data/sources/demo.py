"""Synthetic film reviews whose label depends on word order.

They let every part of the program run without a download. They are not a benchmark: a score on
them shows that a model reads word order, not that it understands reviews.

Each review contains one verdict among distractors. A verdict template has one slot for the
adjective that the author holds and one for the adjective that the author rejects ("It is not
{rejected} at all, it is {held}."), so flipping the label swaps two words and keeps the bag of
words. Some verdicts depend on a cue at the other end of the review ("My sister and I never agree
about films." ... "My sister found this one dull."): the label is the exclusive or of the two. The
distractors are praise and blame from other people and for other films, which carry no information,
and for parts of the film, which correlate with the label.
"""

import random
import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.options import TextOptions
from rnn_lab.data.sources.demo_phrases import (
    ADJECTIVES,
    ADVERBS,
    FACTS,
    FAR_CUES,
    OPENINGS,
    OTHER_VOICES,
    PARTS,
    SLOTS,
    VERDICTS,
)
from rnn_lab.data.sources.registry import register_source

CLASS_NAMES = ("negative", "positive")
PART_AGREES = 0.75  # probability that a remark on a part of the film agrees with the verdict
CUE_FAR_FROM_VERDICT = 0.06  # share of reviews whose verdict depends on a distant cue

T = TypeVar("T")


class DemoConfig(TextOptions):
    """The options of demo. conf/data/demo.yaml explains each."""

    fits_size: ClassVar = False

    source: Literal["demo"] = "demo"
    num_train: Annotated[int, Field(ge=20, le=1_000_000)] = 20_000
    num_test: Annotated[int, Field(ge=20, le=1_000_000)] = 5_000
    data_seed: int = 0
    val_split: Literal["stratified", "random"] = "stratified"


@register_source("demo", DemoConfig)
def load_demo(config: DemoConfig) -> Corpus:
    """Generate reviews, equal on every machine for one `data_seed`.

    The two classes are equally frequent in each split, no text occurs twice, and the test split
    does not depend on the number of training reviews.
    """
    seen: set[str] = set()
    test = _make_split("test", config.num_test, config.data_seed, seen)
    train = _make_split("train", config.num_train, config.data_seed, seen)
    return Corpus(
        name="demo",
        class_names=CLASS_NAMES,
        train=train,
        test=test,
        synthetic=True,
    )


def _make_split(name: str, size: int, seed: int, seen: set[str]) -> Split:
    writer = _Writer(random.Random(f"{name} {seed}"))
    texts: list[str] = []
    while len(texts) < size:
        text = writer.review(label=len(texts) % 2)
        if text not in seen:
            seen.add(text)
            texts.append(text)
    labels = np.arange(size, dtype=np.int64) % 2
    return Split(texts, labels, names=[f"{name}/{number}" for number in range(size)])


class _Writer:
    """Write reviews from one stream of random numbers.

    Only `Random.random` is used: no other method is guaranteed to return the same numbers in every
    Python version.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def review(self, label: int) -> str:
        """Return a review of the class `label`, 20 to 80 words long."""
        middle = [self._fill(fact) for fact in self._some(FACTS, 0, 1)]
        middle.append(self._remark(self._pick(OTHER_VOICES)))
        for part in self._some(PARTS, 1, 2):
            agrees = self.rng.random() < PART_AGREES
            middle.append(self._remark(part, label if agrees else 1 - label))
        middle = self._shuffle(middle)
        opening = self._fill(self._pick(OPENINGS))
        if self.rng.random() < CUE_FAR_FROM_VERDICT:
            own, opposite, remark = self._pick(FAR_CUES)
            agrees = self.rng.random() < 0.5
            cue = own if agrees else opposite
            verdict = self._remark(remark, label if agrees else 1 - label)
            sentences = [cue, opening, *middle, verdict]
        else:
            place = self._number(0, len(middle))
            sentences = [opening, *middle[:place], self._verdict(label), *middle[place:]]
        return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", " ".join(sentences))

    def _verdict(self, label: int) -> str:
        held, rejected = self._adjective(label), self._adjective(1 - label)
        return self._pick(VERDICTS).format(held=held, rejected=rejected)

    def _remark(self, template: str, label: int | None = None) -> str:
        label = self._number(0, 1) if label is None else label
        return template.format(remark=self._adjective(label))

    def _adjective(self, label: int) -> str:
        return f"{self._pick(ADVERBS)} {self._pick(ADJECTIVES[label])}".lstrip()

    def _fill(self, template: str) -> str:
        values = {slot: self._pick(choices) for slot, choices in SLOTS.items()}
        title = f"The {values.pop('first')} {values.pop('second')}"
        return template.format(title=title, **values)

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.random() * len(choices))]

    def _number(self, lowest: int, highest: int) -> int:
        return lowest + int(self.rng.random() * (highest - lowest + 1))

    def _some(self, choices: Sequence[T], fewest: int, most: int) -> list[T]:
        shuffled = self._shuffle(list(choices))
        return shuffled[: self._number(fewest, most)]

    def _shuffle(self, items: list[T]) -> list[T]:
        for last in range(len(items) - 1, 0, -1):
            other = self._number(0, last)
            items[last], items[other] = items[other], items[last]
        return items
