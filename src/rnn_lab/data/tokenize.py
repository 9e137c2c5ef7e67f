"""Cut a corpus into tokens, once: vocabularies, ids and duplicates start from the cached tokens."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from array import array
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from rnn_lab.data import basic_english as tokenizer
from rnn_lab.data.cache import build_once
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.progress import progress_bar
from rnn_lab.data.storage import (
    ArrayWriter,
    RaggedArray,
    RaggedArrayWriter,
    chunked,
    hash_bytes,
    open_array,
)
from rnn_lab.process import num_cores

_CHUNK = 2_500  # texts per call of a worker
_CACHE_FORMAT = 2  # part of the cache key; raise it when the files of a folder change

# The distinct tokens of a chunk; the number of each of its tokens; the token count of each text.
_Numbered = tuple[list[str], "array[int]", "array[int]"]


@dataclass(frozen=True)
class TextHashes:
    """Keys of texts, equal for equal texts: 64 bits of BLAKE2b, see `hash_bytes`."""

    text: np.ndarray  # uint64 [examples], of the exact text
    words: np.ndarray  # uint64 [examples], of the `basic_english` tokens
    labels: np.ndarray  # int64 [examples], equal for equal labels

    def take(self, rows: np.ndarray) -> TextHashes:
        """Return the keys of the examples at `rows`."""
        return TextHashes(self.text[rows], self.words[rows], self.labels[rows])


@dataclass(frozen=True)
class TokenizedCorpus:
    """Every split as numbers of tokens, in dicts by the names of Corpus.splits."""

    tokens: list[str]  # the distinct tokens of the whole corpus; token i has the number i
    splits: dict[str, RaggedArray]  # the numbers of each text
    hashes: dict[str, TextHashes]


def tokenize_corpus(corpus: Corpus, cache_dir: Path) -> TokenizedCorpus:
    """Cut the whole corpus with `basic_english`; independent of splits, vocabulary and options.

    One pass over the texts gives the numbers and the hashes of the tokens.

    Raises:
        WriteError: the cache cannot be written.
    """
    version = f"{tokenizer.BASIC_ENGLISH_VERSION}.{_CACHE_FORMAT}"
    folder = cache_dir / "tokens" / f"basic_english-{version}-{corpus.fingerprint[:20]}"
    build_once(folder, partial(_tokenize_into, corpus))
    return TokenizedCorpus(
        tokens=json.loads((folder / "tokens.json").read_text()),
        splits={name: RaggedArray.load(folder, name) for name in corpus.splits},
        hashes={
            name: TextHashes(
                text=open_array(folder / f"{name}_text_hashes.npy"),
                words=open_array(folder / f"{name}_word_hashes.npy"),
                labels=_label_keys(split.labels),
            )
            for name, split in corpus.splits.items()
        },
    )


def _label_keys(labels: np.ndarray) -> np.ndarray:
    """Return a number for each label, or for each set of labels [examples, classes]."""
    if labels.ndim == 1:
        return labels
    keys = b"".join(hash_bytes(row.tobytes())[:8] for row in labels)
    return np.frombuffer(keys, np.int64)


def _tokenize_into(corpus: Corpus, folder: Path) -> None:
    number: defaultdict[str, int] = defaultdict(count().__next__)
    for name, split in corpus.splits.items():
        first = 0
        with (
            RaggedArrayWriter(folder, name, np.uint32) as file,
            ArrayWriter(folder / f"{name}_text_hashes.npy", np.uint64) as text_hashes,
            ArrayWriter(folder / f"{name}_word_hashes.npy", np.uint64) as word_hashes,
        ):
            for tokens, chunk_numbers, chunk_lengths in _number_chunks(split.texts, name):
                # Chunks arrive in order, so the numbers do not depend on the size of a chunk.
                renumber = np.fromiter(map(number.__getitem__, tokens), np.uint32, len(tokens))
                numbers, lengths = renumber[np.asarray(chunk_numbers)], np.asarray(chunk_lengths)
                file.append(numbers, lengths)
                word_hashes.append(_hash_rows(numbers, lengths))
                text_hashes.append(split.text_hashes[first : first + len(lengths), 0])
                first += len(lengths)
    (folder / "tokens.json").write_text(json.dumps(list(number)))


def _hash_rows(values: np.ndarray, lengths: np.ndarray) -> bytes:
    """Return the first 64 bits of the hash of each row; `values` holds the rows, concatenated."""
    content, itemsize = values.tobytes(), values.itemsize
    ends = np.cumsum(lengths, dtype=np.int64) * itemsize
    spans = zip((ends - lengths * itemsize).tolist(), ends.tolist(), strict=True)
    return b"".join(hash_bytes(content[start:end])[:8] for start, end in spans)


def _number_chunks(texts: Sequence[str], name: str) -> Iterator[_Numbered]:
    """Yield `number_tokens` of some texts at a time, in order, computed on every core.

    At most one chunk more than there are workers is read ahead.
    """
    workers = min(-(-len(texts) // _CHUNK), num_cores())
    number_chunk = tokenizer.number_tokens if workers <= 1 else _number_in_worker
    title = f"Tokenizing {name}"
    with progress_bar(title, len(texts)) as advance, ThreadPoolExecutor(max(workers, 1)) as pool:
        pending: deque[Future[_Numbered]] = deque()

        def next_result() -> _Numbered:
            numbered = pending.popleft().result()
            advance(len(numbered[2]))
            return numbered

        for chunk in chunked(texts, _CHUNK):
            pending.append(pool.submit(number_chunk, chunk))
            if len(pending) > workers:
                yield next_result()
        while pending:
            yield next_result()


def _number_in_worker(texts: list[str]) -> _Numbered:
    """Return `number_tokens`, computed in a child process, or here if none can be started.

    Not multiprocessing: a plain child process does not import the main module of the caller, can
    be started from a daemonic process, inherits neither threads nor the lock of the cache, and
    exits when this process dies.
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
