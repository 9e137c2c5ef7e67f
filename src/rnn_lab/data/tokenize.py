"""A corpus cut into tokens, cached: what every vocabulary of that corpus starts from."""

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

from rnn_lab.cpu import num_cores
from rnn_lab.data import basic_english as tokenizer
from rnn_lab.data.cache import build_once
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.progress import progress_bar
from rnn_lab.data.ragged_storage import RaggedArray, RaggedArrayWriter
from rnn_lab.data.text_storage import chunked

_PIECE = 2_500  # reviews a worker takes at a time

# The distinct tokens of a piece; the number of each of its tokens; the tokens of each review.
_Numbered = tuple[list[str], "array[int]", "array[int]"]


@dataclass(frozen=True)
class TokenizedCorpus:
    """Every split as numbers into one list of the distinct tokens of the whole corpus."""

    tokens: list[str]
    splits: dict[str, RaggedArray]  # by the names of Corpus.splits


def tokenize_corpus(corpus: Corpus, cache_dir: Path) -> TokenizedCorpus:
    """`basic_english` of the whole corpus: independent of any cut, vocabulary or option.

    Raises:
        WriteError: the cache cannot be written.
    """
    version = tokenizer.BASIC_ENGLISH_VERSION
    folder = cache_dir / "tokens" / f"basic_english-{version}-{corpus.fingerprint[:20]}"
    build_once(folder, partial(_tokenize_into, corpus))
    tokens = json.loads((folder / "tokens.json").read_text())
    return TokenizedCorpus(tokens, {name: RaggedArray.load(folder, name) for name in corpus.splits})


def _tokenize_into(corpus: Corpus, folder: Path) -> None:
    number: defaultdict[str, int] = defaultdict(count().__next__)
    for name, split in corpus.splits.items():
        with RaggedArrayWriter(folder, name, np.uint32) as file:
            for tokens, numbers, lengths in _number_in_pieces(split.texts, name):
                # Pieces arrive in order, so the numbers do not depend on how many there were.
                renumber = np.fromiter(map(number.__getitem__, tokens), np.uint32, len(tokens))
                file.append(renumber[np.asarray(numbers)], np.asarray(lengths))
    (folder / "tokens.json").write_text(json.dumps(list(number)))


def _number_in_pieces(texts: Sequence[str], name: str) -> Iterator[_Numbered]:
    """`number_tokens` of a few thousand texts at a time, in order, on every core.

    No more pieces are read than there are workers to take them, and one to go on with.
    """
    workers = min(-(-len(texts) // _PIECE), num_cores())
    number_piece = tokenizer.number_tokens if workers <= 1 else _number_in_worker
    title = f"Tokenizing {name}"
    with progress_bar(title, len(texts)) as advance, ThreadPoolExecutor(max(workers, 1)) as pool:
        under_way: deque[Future[_Numbered]] = deque()

        def next_result() -> _Numbered:
            numbered = under_way.popleft().result()
            advance(len(numbered[2]))
            return numbered

        for piece in chunked(texts, _PIECE):
            under_way.append(pool.submit(number_piece, piece))
            if len(under_way) > workers:
                yield next_result()
        while under_way:
            yield next_result()


def _number_in_worker(texts: list[str]) -> _Numbered:
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
