"""Reviews that stand more than once, within a split or in two, found by their hashes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TypedDict

import numpy as np

from rnn_lab.data.array_storage import ArrayWriter, open_array
from rnn_lab.data.basic_english import BASIC_ENGLISH_VERSION
from rnn_lab.data.cache import build_once
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.ragged_storage import RaggedArray
from rnn_lab.data.text_storage import chunked
from rnn_lab.data.tokenize import tokenize_corpus

_PIECE = 1_000  # texts in memory at a time


class DuplicateCounts(TypedDict):
    """How many reviews stand elsewhere too, and how many of these under another label."""

    reviews: int
    label_conflicts: int


@dataclass(frozen=True)
class TextHashes:
    """Two reviews of the same text have the same key, two of others not: 64 bits of BLAKE2b.

    Among ten million texts the odds of one false pair are 1 to 370,000.
    """

    text: np.ndarray  # uint64 [reviews], of every letter
    words: np.ndarray  # uint64 [reviews], of the words of `basic_english`
    labels: np.ndarray  # int64 [reviews]

    def take(self, rows: np.ndarray) -> "TextHashes":
        """The keys of the reviews at `rows`."""
        return TextHashes(self.text[rows], self.words[rows], self.labels[rows])


def split_hashes(
    corpus: Corpus, cache_dir: Path, train_rows: np.ndarray, validation_rows: np.ndarray
) -> dict[str, TextHashes]:
    """The keys of each split of a run, by name; the corpus is hashed once, then cached.

    `train_rows` and `validation_rows` are what `split_validation` gives.

    Raises:
        DataError: the cache cannot be written.
    """
    folder = cache_dir / "duplicates" / f"{BASIC_ENGLISH_VERSION}-{corpus.fingerprint[:20]}"
    build_once(folder, partial(_hash_into, corpus, cache_dir))
    given = {
        name: TextHashes(
            text=open_array(folder / f"{name}_text.npy"),
            words=open_array(folder / f"{name}_words.npy"),
            labels=split.labels,
        )
        for name, split in corpus.splits.items()
    }
    validation = given.get("validation", given["train"].take(validation_rows))
    keys = given | {"train": given["train"].take(train_rows), "validation": validation}
    order = ("train", "validation", "test")
    return {name: keys[name] for name in order if name in keys and len(keys[name].labels)}


def _hash_into(corpus: Corpus, cache_dir: Path, folder: Path) -> None:
    tokenized = tokenize_corpus(corpus, cache_dir)
    for name, split in corpus.splits.items():
        with ArrayWriter(folder / f"{name}_text.npy", np.uint64) as file:
            for texts in chunked(split.texts, _PIECE):
                file.append(b"".join(_key(text.encode("utf-8")) for text in texts))
        with ArrayWriter(folder / f"{name}_words.npy", np.uint64) as file:
            for keys in _keys_of_words(tokenized.splits[name]):
                file.append(keys)


def _keys_of_words(split: RaggedArray) -> Iterator[bytes]:
    for _, numbers, lengths in split.pieces():
        content, itemsize = numbers.tobytes(), numbers.itemsize
        ends = np.cumsum(lengths * itemsize)
        spans = zip((ends - lengths * itemsize).tolist(), ends.tolist(), strict=True)
        yield b"".join(_key(content[start:end]) for start, end in spans)


def _key(content: bytes) -> bytes:
    return blake2b(content, digest_size=8).digest()


def count_duplicates(keys: Mapping[str, TextHashes]) -> dict[str, dict[str, DuplicateCounts]]:
    """Count the reviews that stand more than once: "exact" to the letter, "by_token" by word.

    By the name of a split, how many of its reviews repeat another of it, each text counted once
    less than it stands there; by "test_in_train" and the like, how many of the one stand in the
    other too.
    """
    return {
        "exact": _count({name: (split.text, split.labels) for name, split in keys.items()}),
        "by_token": _count({name: (split.words, split.labels) for name, split in keys.items()}),
    }


def _count(keys: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, DuplicateCounts]:
    texts = {name: _Texts(*of_split) for name, of_split in keys.items()}
    counts = {name: texts[name].repeats() for name in keys}
    names = list(keys)
    for place, first in enumerate(names):
        for later in names[place + 1 :]:
            counts[f"{later}_in_{first}"] = texts[first].those_of(*keys[later])
    return counts


class _Texts:
    """The distinct texts of a split, in the order of their keys."""

    def __init__(self, keys: np.ndarray, labels: np.ndarray) -> None:
        order = np.lexsort((labels, keys))
        keys, labels = keys[order], labels[order]
        begins = np.ones(len(keys), dtype=bool)
        begins[1:] = keys[1:] != keys[:-1]
        starts = np.flatnonzero(begins)  # [texts]
        ends = np.append(starts, len(keys))[1:]
        self.keys = keys[starts]
        self.sizes = ends - starts
        self.lowest, self.highest = labels[starts], labels[ends - 1]  # labels they stand under

    def repeats(self) -> DuplicateCounts:
        more = self.sizes - 1
        label_conflicts = more[self.lowest != self.highest]
        return {"reviews": int(more.sum()), "label_conflicts": int(label_conflicts.sum())}

    def those_of(self, keys: np.ndarray, labels: np.ndarray) -> DuplicateCounts:
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = self.keys[place] == keys
        other = (self.lowest[place] != labels) | (self.highest[place] != labels)
        return {"reviews": int(found.sum()), "label_conflicts": int((found & other).sum())}


def leaked_rows(keys: Mapping[str, TextHashes]) -> np.ndarray:
    """Which training reviews stand in validation or test too, word for word; bool [reviews]."""
    words = keys["train"].words
    others = [split.words for name, split in keys.items() if name != "train"]
    return np.isin(words, np.concatenate([words[:0], *others]))
