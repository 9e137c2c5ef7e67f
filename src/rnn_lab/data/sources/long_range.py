"""Synthetic texts whose label is their first word, told apart a given number of words later.

What a network that reads to the end must do is remember one bit over `distance` words that say
nothing: the latching problem of Bengio, Simard and Frasconi (1994). The words between are as
random as coin tosses and as likely under either label, so that a model which forgot the first
word cannot do better than chance.
"""

import random

import numpy as np

from rnn_lab.data.config import LongRangeConfig
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.corpus_storage import content_fingerprint

SIGNALS = ("heads", "tails")  # the first word of a text, and its label
FILLERS = ("the", "film", "was", "an", "actor", "spoke", "then", "ended")


def load_long_range(config: LongRangeConfig) -> Corpus:
    """Texts of one signal and `distance` fillers, the same on every machine for one seed.

    Each text has distance + 1 words. The two labels are equally frequent in each split, no row of
    fillers occurs twice, and the test split does not depend on the size of the training split.
    """
    seen: set[str] = set()
    test = _make_split("test", config.num_test, config, seen)
    train = _make_split("train", config.num_train, config, seen)
    return Corpus(
        name="long_range",
        class_names=SIGNALS,
        train=train,
        validation=None,
        test=test,
        fingerprint=content_fingerprint(SIGNALS, [train, test]),
        synthetic=True,
    )


def _make_split(name: str, size: int, config: LongRangeConfig, seen: set[str]) -> Split:
    # Of all its methods, `random` alone is promised to give the same numbers in every Python.
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
