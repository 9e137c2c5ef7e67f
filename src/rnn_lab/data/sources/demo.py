"""Synthetic film reviews whose label needs word order. No one wrote or meant any of them.

They let every part of the program run without a download, and they are no benchmark: a score on
them says that a model reads word order, not that it understands reviews.

Each review holds one verdict among distractions. The verdict's templates have a slot for what the
author holds and one for what the author rejects ("It is not {rejected} at all, it is {held}."),
so turning the label over swaps two words and leaves the bag of words as it was. Some verdicts hang
on a cue that stands at the other end of the review ("My sister and I never agree about films."
... "My sister found this one dull."), where the label is the exclusive or of the two. Around them
stand praise and blame from other people and for other films, which say nothing of the label, and
for parts of the film, which lean towards it.
"""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.corpus_storage import content_fingerprint
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

CLASS_NAMES = ("negative", "positive")
PART_AGREES = 0.75  # how often a remark on a part of the film leans the way of the verdict
CUE_FAR_FROM_VERDICT = 0.06  # share of reviews whose verdict hangs on a cue elsewhere

T = TypeVar("T")


def load_demo(config: DemoConfig) -> Corpus:
    """Synthetic reviews, the same on every machine for one `data_seed`.

    The two classes are equally frequent in each split, no text occurs twice, and the test split
    does not depend on the size of the training split.
    """
    seen: set[str] = set()
    test = _make_split("test", config.num_test, config.data_seed, seen)
    train = _make_split("train", config.num_train, config.data_seed, seen)
    return Corpus(
        name="demo",
        class_names=CLASS_NAMES,
        train=train,
        validation=None,
        test=test,
        fingerprint=content_fingerprint(CLASS_NAMES, [train, test]),
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
    """Writes reviews from one stream of random numbers.

    Only `Random.random` is drawn from: of all its methods it alone is promised to give the same
    numbers in every version of Python.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def review(self, label: int) -> str:
        """One review of the class `label`, 20 to 80 words long."""
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
