"""The vectors that words start from: learned from the texts of a run, or read from a file; cached.

Skip-gram (Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their
Compositionality") needs no labels. What a few hundred labelled texts cannot teach, that "superb"
and "excellent" are alike, it learns from unlabelled ones.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rnn_lab.data.cache import build_once, rows_fingerprint, settings_key, stat_key
from rnn_lab.data.encode import EncodedSplit
from rnn_lab.data.options import SKIPGRAM, TextOptions
from rnn_lab.data.progress import progress_bar
from rnn_lab.data.storage import RaggedArray
from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.data.unlabelled import (
    EncodedUnlabelled,
    RunTexts,
    encode_unlabelled,
    find_unlabelled,
)
from rnn_lab.data.vector_files import read_vectors, read_words
from rnn_lab.data.vocabulary import SPECIALS, UNK_ID, VocabularyTokenizer
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.paths import local_path
from rnn_lab.plugins import require_extra

_VERSION = 1  # part of the cache key; raise it when the vectors below change
_MIN_COUNT = 5  # a token of fewer occurrences has no vector, as in word2vec
_SEED = 1  # the same vectors for every seed of a run
_LONGEST = 10_000  # tokens that gensim reads of one text; it drops the rest
_CHUNK = 1_000  # texts whose ids are read at a time


@dataclass(frozen=True)
class WordVectors:
    """Vectors of some tokens of a vocabulary, as they were learned: not scaled."""

    ids: np.ndarray  # int64 [tokens], ascending, without <pad> and <unk>
    vectors: np.ndarray  # float32 [tokens, dim]
    about: dict[str, Any]  # for result.json: source, fingerprint, coverage, texts


def load_word_vectors(config: TextOptions, texts: RunTexts, dim: int) -> WordVectors:
    """Return the vectors of `config.vectors`, of size `dim`.

    Raises:
        ConfigError: gensim is not installed, or the tokenizer cuts no words that a file could have.
        DataError: a file of vectors or of unlabelled texts cannot be used.
        WriteError: the cache cannot be written.
    """
    assert config.vectors is not None
    if config.vectors == SKIPGRAM:
        settings, build = _skipgram(config, texts, dim)
    else:
        settings, build = _from_file(config.vectors, texts.vocabulary, dim)
    vocabulary = [*texts.vocabulary.version_key(), texts.vocabulary.fingerprint]
    settings |= {"version": _VERSION, "vocabulary": vocabulary, "dim": dim}
    folder = build_once(Path(config.cache_dir) / "vectors" / settings_key(settings), build)
    ids, vectors = (np.load(folder / f"{name}.npy") for name in ("ids", "vectors"))
    about = {
        "source": config.vectors,
        "fingerprint": hashlib.sha256(ids.tobytes() + vectors.tobytes()).hexdigest(),
        "coverage": _coverage(ids, texts),
    }
    return WordVectors(ids, vectors, about | json.loads((folder / "about.json").read_text()))


def extend_by_file(vocabulary: Tokenizer, config: TextOptions) -> Tokenizer:
    """Return the vocabulary with further words of the file of data.vectors, where that is one.

    There are at most data.max_vocab_size tokens; without that limit, none is added. Words are added
    in the file's order, and only those into which the tokenizer can cut a text. None is added of
    a file that has no word of the texts: it is of another language, or of other tokens.

    Raises:
        DataError: the file cannot be read.
    """
    most = config.max_vocab_size
    if config.vectors in (None, SKIPGRAM) or not isinstance(most, int):
        return vocabulary
    if not isinstance(vocabulary, VocabularyTokenizer) or vocabulary.unit != "word":
        return vocabulary
    assert config.vectors is not None
    _check_exists(config.vectors)
    known = vocabulary.token_ids()
    new: dict[str, None] = {}
    is_of_these_texts = False
    for word in read_words(config.vectors):
        if len(vocabulary) + len(new) >= most:
            break
        if word in known:
            is_of_these_texts = True
        elif word not in SPECIALS and vocabulary.tokenize(word) == [word]:
            new[word] = None
    if not is_of_these_texts:
        return vocabulary
    return vocabulary.extended(type(vocabulary)([*SPECIALS, *new]))


def _check_exists(path: str) -> Path:
    place = local_path(path)
    if not place.is_file():
        raise DataError(f"data.vectors={path}: no such file")
    return place


def _coverage(ids: np.ndarray, texts: RunTexts) -> dict[str, float]:
    """Return the shares of the vocabulary and of the tokens of the training texts with a vector."""
    counts = np.zeros(len(texts.vocabulary), np.int64)
    for first in range(0, len(texts.train), _CHUNK):
        rows = range(first, min(first + _CHUNK, len(texts.train)))
        tokens = np.concatenate([texts.train[row] for row in rows])
        counts += np.bincount(tokens, minlength=len(counts))
    return {
        "vocabulary": len(ids) / max(len(counts) - UNK_ID - 1, 1),
        "training_tokens": float(counts[ids].sum() / max(counts.sum(), 1)),
    }


_Build = tuple[dict[str, Any], Callable[[Path], None]]  # what decides the vectors; makes them


def _from_file(path: str, vocabulary: Tokenizer, dim: int) -> _Build:
    words = vocabulary.token_ids()
    if not isinstance(vocabulary, VocabularyTokenizer):
        raise ConfigError(
            f"data.vectors={path}: has vectors of words, and data.tokenizer={vocabulary.name} "
            f"cuts texts into other tokens; give data.vectors={SKIPGRAM} or "
            "data.tokenizer=basic_english"
        )
    place = _check_exists(path)

    def build(folder: Path) -> None:
        ids, vectors = read_vectors(path, words, dim)
        if not len(ids):
            raise DataError(f"{path}: has none of the {len(words):,} words of the vocabulary")
        _save(folder, ids, vectors, {})

    return {"file": stat_key([place.absolute()])}, build


def _skipgram(config: TextOptions, texts: RunTexts, dim: int) -> _Build:
    require_extra("vectors", f"data.vectors={SKIPGRAM}")
    named = find_unlabelled(config)
    unlabelled = encode_unlabelled(named, texts, Path(config.cache_dir)) if named else None
    settings = {
        "corpus": texts.corpus.fingerprint,
        "rows": [rows_fingerprint(rows) for rows in texts.rows],
        "unlabelled": unlabelled.texts_fingerprint if unlabelled else None,
        "epochs": config.vectors_epochs,
        "window": config.vectors_window,
        "gensim": version("gensim"),
    }
    return settings, partial(_learn_into, config, texts, unlabelled, dim)


def _learn_into(
    config: TextOptions,
    texts: RunTexts,
    unlabelled: EncodedUnlabelled | None,
    dim: int,
    folder: Path,
) -> None:
    sequences: list[EncodedSplit | RaggedArray] = [texts.train]
    counts = {"training": len(texts.train)}
    if unlabelled is not None:
        sequences.append(unlabelled.ids)
        counts |= {"unlabelled": len(unlabelled.ids), "held_out": unlabelled.num_held_out}
    ids, vectors = learn_skipgram(
        lambda: chain.from_iterable(map(_rows, sequences)),
        dim,
        epochs=config.vectors_epochs,
        window=config.vectors_window,
        total=sum(map(len, sequences)),
    )
    _save(folder, ids, vectors, {"texts": counts, "gensim": version("gensim")})


def _save(folder: Path, ids: np.ndarray, vectors: np.ndarray, about: dict[str, Any]) -> None:
    np.save(folder / "ids.npy", ids)
    np.save(folder / "vectors.npy", vectors)
    (folder / "about.json").write_text(json.dumps(about))


def _rows(encoded: EncodedSplit | RaggedArray) -> Iterator[np.ndarray]:
    return (encoded[row] for row in range(len(encoded)))


class _Sentences:
    """Texts as lists of tokens for gensim, from the start again at each iteration."""

    def __init__(
        self, read: Callable[[], Iterator[np.ndarray]], advance: Callable[[int], None]
    ) -> None:
        self._read, self._advance = read, advance

    def __iter__(self) -> Iterator[list[str]]:
        for ids in self._read():
            known = ids[ids > UNK_ID]  # word2vec drops rare words before it looks at neighbours
            for first in range(0, len(known), _LONGEST):
                yield list(map(str, known[first : first + _LONGEST].tolist()))
            self._advance(1)


def learn_skipgram(
    read: Callable[[], Iterator[np.ndarray]], dim: int, *, epochs: int, window: int, total: int
) -> tuple[np.ndarray, np.ndarray]:
    """Learn vectors by skip-gram with negative sampling, as gensim's defaults but for one thread.

    With several threads, no two calls give the same vectors.

    Args:
        read: returns the ids of each text, from the start again at each call.
        dim: numbers of a vector.
        epochs: passes over the texts.
        window: how far apart a token and one that it predicts may be.
        total: number of texts, for the progress bar.

    Returns:
        The ids of the tokens that occur five times or more, int64 [tokens], ascending; their
        vectors, float32 [tokens, dim].
    """
    from gensim.models import Word2Vec

    logging.getLogger("gensim").setLevel(logging.ERROR)  # it warns of few texts
    with progress_bar("Learning word vectors", total * (epochs + 1)) as advance:
        sentences = _Sentences(read, advance)
        model = Word2Vec(
            vector_size=dim, sg=1, window=window, min_count=_MIN_COUNT, seed=_SEED, workers=1
        )
        model.build_vocab(sentences)
        if not len(model.wv):
            return np.empty(0, np.int64), np.empty((0, dim), np.float32)
        model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
    ids = np.array([int(token) for token in model.wv.index_to_key], np.int64)
    order = np.argsort(ids)
    return ids[order], model.wv.vectors[order].astype(np.float32)
