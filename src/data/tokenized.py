"""A corpus cut into tokens, cached: what every vocabulary of that corpus starts from."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from src.data import tokenizer
from src.data.cache import build_once
from src.data.corpus import Corpus
from src.data.progress import progress_bar

_CHUNK = 2_500  # reviews a worker takes at a time


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, one after the other: row i is values[offsets[i]:offsets[i + 1]].

    The arrays may be memory-mapped.
    """

    values: np.ndarray  # unsigned integers [sum of lengths]
    offsets: np.ndarray  # int64 [rows + 1]

    @classmethod
    def from_lengths(cls, values: np.ndarray, lengths: np.ndarray) -> Ragged:
        """Rows of the given lengths."""
        return cls(values, np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def save(self, folder: Path, name: str) -> None:
        """Write two .npy files into `folder`."""
        np.save(folder / f"{name}.values.npy", self.values)
        np.save(folder / f"{name}.offsets.npy", self.offsets)

    @classmethod
    def load(cls, folder: Path, name: str) -> Ragged:
        """Memory-map what `save` wrote."""
        # A plain array over the map: indexing np.memmap itself is several times slower.
        values = np.load(folder / f"{name}.values.npy", mmap_mode="r").view(np.ndarray)
        offsets = np.load(folder / f"{name}.offsets.npy", mmap_mode="r").view(np.ndarray)
        return cls(values, offsets)


@dataclass(frozen=True)
class TokenizedCorpus:
    """Every split as numbers into one list of the distinct tokens of the whole corpus."""

    tokens: list[str]
    splits: dict[str, Ragged]  # by the names of Corpus.splits


def tokenize_corpus(corpus: Corpus, cache_dir: Path) -> TokenizedCorpus:
    """`basic_english` of the whole corpus: independent of any cut, vocabulary or option.

    Raises:
        DataError: the cache cannot be written.
    """
    version = tokenizer.BASIC_ENGLISH_VERSION
    folder = cache_dir / "tokens" / f"basic_english-{version}-{corpus.fingerprint[:20]}"
    build_once(folder, partial(_tokenize_into, corpus))
    tokens = json.loads((folder / "tokens.json").read_text())
    return TokenizedCorpus(tokens, {name: Ragged.load(folder, name) for name in corpus.splits})


def _tokenize_into(corpus: Corpus, folder: Path) -> None:
    number: defaultdict[str, int] = defaultdict(count().__next__)
    for name, split in corpus.splits.items():
        values, lengths = [np.empty(0, np.uint32)], [np.empty(0, np.uint32)]
        for tokens, chunk_numbers, chunk_lengths in _number_in_chunks(split.texts, name):
            # Chunks arrive in order, so the numbers do not depend on how many there were.
            renumber = np.fromiter(map(number.__getitem__, tokens), np.uint32, len(tokens))
            values.append(renumber[np.asarray(chunk_numbers)])
            lengths.append(np.asarray(chunk_lengths))
        Ragged.from_lengths(np.concatenate(values), np.concatenate(lengths)).save(folder, name)
    (folder / "tokens.json").write_text(json.dumps(list(number)))


def _number_in_chunks(
    texts: Sequence[str], name: str
) -> Iterator[tuple[list[str], array[int], array[int]]]:
    starts = range(0, len(texts), _CHUNK)
    workers = min(len(starts), _num_cores())

    def number_chunk(start: int) -> tuple[list[str], array[int], array[int]]:
        chunk = [texts[i] for i in range(start, min(start + _CHUNK, len(texts)))]
        return tokenizer.number_tokens(chunk) if workers == 1 else _number_in_worker(chunk)

    title = f"Tokenizing {name}"
    with progress_bar(title, len(texts)) as advance, ThreadPoolExecutor(max(workers, 1)) as pool:
        for chunk in pool.map(number_chunk, starts):
            yield chunk
            advance(len(chunk[2]))


def _number_in_worker(texts: list[str]) -> tuple[list[str], array[int], array[int]]:
    """`number_tokens` in a process of its own, or here if none can be had.

    A plain child process rather than multiprocessing: it imports no caller's main module, may be
    started from a daemonic process, inherits neither threads nor the cache's lock, and ends by
    itself when this process dies.
    """
    command = [sys.executable or "", "-I", tokenizer.__file__]
    try:
        answer = subprocess.run(
            command, input=pickle.dumps(texts), capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return tokenizer.number_tokens(texts)
    tokens, numbers, lengths = pickle.loads(answer)
    return tokens, numbers, lengths


def _num_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
