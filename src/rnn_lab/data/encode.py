"""Fit a vocabulary and encode a corpus as ids, cached on disk and memory-mapped."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rnn_lab.data.cache import build_once, rows_fingerprint, settings_key
from rnn_lab.data.corpus import Corpus, UnlabelledTexts
from rnn_lab.data.options import TextOptions
from rnn_lab.data.progress import progress_bar, with_progress
from rnn_lab.data.storage import ConcatenatedArrays, RaggedArray, RaggedArrayWriter, chunked
from rnn_lab.data.text_encoder import tokenizer_from_state
from rnn_lab.data.tokenize import tokenize_corpus
from rnn_lab.data.tokenizer_base import (
    TEXTS_PER_CALL,
    Tokenizer,
    check_trained,
    encode_texts,
    find_tokenizer,
    names_file,
)
from rnn_lab.data.tokenizer_choice import resolve_tokenizer
from rnn_lab.data.tokenizer_json import JsonTokenizer, read_tokenizer_json
from rnn_lab.data.vocabulary import UNK_ID, WordTokenizer, sort_by_frequency
from rnn_lab.errors import ConfigError

_Chunk = tuple[np.ndarray, np.ndarray]  # concatenated ids; length of each text


@dataclass(frozen=True)
class EncodedTexts:
    """Texts as whole sequences of ids; batches truncate them to data.max_length.

    `texts[i]` is text i: ids[starts[i] : starts[i] + lengths[i]].
    """

    ids: np.ndarray | ConcatenatedArrays  # uint16 or uint32 [ids of all texts], memory-mapped
    starts: np.ndarray  # int64 [examples]
    lengths: np.ndarray  # int64 [examples], each at least 1

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.ids[self.starts[row] : self.starts[row] + self.lengths[row]]


@dataclass(frozen=True)
class EncodedSplit(EncodedTexts):
    """Labelled texts, encoded."""

    labels: np.ndarray  # int64 [examples] or uint8 [examples, classes], see Split

    def take(self, rows: np.ndarray) -> "EncodedSplit":
        """Return the examples at `rows`, over the same ids."""
        return EncodedSplit(self.ids, self.starts[rows], self.lengths[rows], self.labels[rows])


def fit_vocabulary(
    corpus: Corpus,
    rows: np.ndarray,
    options: TextOptions,
    unlabelled: UnlabelledTexts | None = None,
) -> Tokenizer:
    """Return the vocabulary of the texts of `corpus.train` at `rows`; cached.

    Tokens that only the unlabelled texts have follow, the most frequent ones, up to
    data.max_vocab_size. Subwords are learned from both.

    Raises:
        DataError: the unlabelled texts cannot be read.
        ConfigError: torchtext cannot be loaded for data.tokenizer=torchtext, or the tokenizer.json
            that data.tokenizer names cannot be used; or a plugin's tokenizer cannot be saved.
        WriteError: the cache cannot be written.
    """
    options = resolve_tokenizer(options, corpus, rows)
    if names_file(options.tokenizer):
        return _read_tokenizer(options)
    settings = {
        "corpus": corpus.fingerprint,
        "rows": rows_fingerprint(rows),
        "tokenizer": find_tokenizer(options.tokenizer).version_key(),
        "max_vocab_size": options.max_vocab_size,
        "min_freq": options.min_freq,
    }
    if unlabelled is not None:
        settings["unlabelled"] = unlabelled.key
    folder = Path(options.cache_dir) / "vocabularies" / settings_key(settings)

    def build(folder: Path) -> None:
        vocabulary = _fit(corpus, rows, options, unlabelled)
        (folder / "vocabulary.json").write_text(json.dumps(vocabulary.state()))

    build_once(folder, build)
    return tokenizer_from_state(
        options.tokenizer, json.loads((folder / "vocabulary.json").read_text())
    )


def _fit(
    corpus: Corpus, rows: np.ndarray, options: TextOptions, unlabelled: UnlabelledTexts | None
) -> Tokenizer:
    kind = find_tokenizer(options.tokenizer)
    counts_cached = kind is WordTokenizer  # whose tokens of the corpus are cached
    labelled = () if counts_cached else corpus.train.take(rows).texts
    vocabulary = kind.train(
        with_progress(labelled, "Reading training texts"),
        with_progress(() if unlabelled is None else unlabelled, "Reading unlabelled texts"),
        max_vocab_size=options.max_vocab_size,
        min_freq=options.min_freq,
    )
    check_trained(kind, vocabulary)
    if counts_cached:
        words = _count_cached_words(corpus, rows, options)
        return words.extended(vocabulary, options.max_vocab_size)
    return vocabulary


def _count_cached_words(corpus: Corpus, rows: np.ndarray, options: TextOptions) -> WordTokenizer:
    tokenized = tokenize_corpus(corpus, Path(options.cache_dir))
    chosen = np.zeros(len(corpus.train), dtype=bool)
    chosen[rows] = True
    counts = np.zeros(len(tokenized.tokens), dtype=np.int64)
    for chunk, numbers, lengths in tokenized.splits["train"].chunks():
        training = numbers[np.repeat(chosen[chunk], lengths)]
        counts += np.bincount(training, minlength=len(counts))
    return WordTokenizer(
        sort_by_frequency(
            tokenized.tokens,
            counts.tolist(),
            min_freq=options.min_freq,
            max_tokens=options.max_vocab_size,
        )
    )


def _read_tokenizer(options: TextOptions) -> JsonTokenizer:
    vocabulary, most = read_tokenizer_json(options.tokenizer), options.max_vocab_size
    if most is not None and len(vocabulary) > most:
        raise ConfigError(
            f"data.max_vocab_size={most}: {options.tokenizer} has {len(vocabulary)} tokens"
        )
    return vocabulary


def encode_corpus(
    corpus: Corpus, vocabulary: Tokenizer, cache_dir: Path
) -> dict[str, EncodedSplit]:
    """Encode every split of `corpus` with `vocabulary`; cached.

    Raises:
        ConfigError: the tokenizer of a plugin gives ids that it does not have.
        WriteError: the cache cannot be written.
    """
    settings = {
        "corpus": corpus.fingerprint,
        "tokenizer": vocabulary.version_key(),
        "vocabulary": vocabulary.fingerprint,
    }
    folder = build_once(
        cache_dir / "encoded" / settings_key(settings),
        partial(_encode_into, corpus, vocabulary, cache_dir),
    )
    encoded = {}
    for name, split in corpus.splits.items():
        ragged = RaggedArray.load(folder, name)
        encoded[name] = EncodedSplit(
            ragged.values, ragged.offsets[:-1], np.diff(ragged.offsets), split.labels
        )
    return encoded


def _encode_into(corpus: Corpus, vocabulary: Tokenizer, cache_dir: Path, folder: Path) -> None:
    dtype = _id_dtype(vocabulary)
    encoded: dict[str, Iterator[_Chunk]]
    if type(vocabulary) is WordTokenizer:  # the cached tokens of the corpus are its words
        tokenized = tokenize_corpus(corpus, cache_dir)
        id_of_number = vocabulary.ids(tokenized.tokens).astype(dtype)
        encoded = {
            name: _renumber(numbers, id_of_number) for name, numbers in tokenized.splits.items()
        }
    else:
        encoded = {
            name: _encode_texts(split.texts, vocabulary, f"Encoding {name}")
            for name, split in corpus.splits.items()
        }
    for name, chunks in encoded.items():
        with RaggedArrayWriter(folder, name, dtype) as file:
            for ids, lengths in chunks:
                file.append(*_with_unk_for_empty(ids, lengths))


def _renumber(split: RaggedArray, id_of_number: np.ndarray) -> Iterator[_Chunk]:
    for _, numbers, lengths in split.chunks():
        yield id_of_number[numbers], lengths


def _encode_texts(texts: Sequence[str], vocabulary: Tokenizer, title: str) -> Iterator[_Chunk]:
    with progress_bar(title, len(texts)) as advance:
        for chunk in chunked(texts, TEXTS_PER_CALL):
            encoded = encode_texts(vocabulary, chunk)
            lengths = np.array([len(text_ids) for text_ids in encoded])
            yield np.concatenate(encoded).astype(_id_dtype(vocabulary)), lengths
            advance(len(chunk))


def _with_unk_for_empty(ids: np.ndarray, lengths: np.ndarray) -> _Chunk:
    """Encode a text without tokens as one <unk>, so that no length is 0."""
    starts = np.cumsum(lengths) - lengths
    return np.insert(ids, starts[lengths == 0], UNK_ID), np.maximum(lengths, 1)


def _id_dtype(vocabulary: Tokenizer) -> type[np.unsignedinteger]:
    return np.uint16 if len(vocabulary) <= 2**16 else np.uint32
