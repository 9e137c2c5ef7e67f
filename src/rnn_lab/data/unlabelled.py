"""The texts without labels that data.unlabelled names, and their ids."""

import hashlib
import json
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rnn_lab.data.basic_english import basic_english
from rnn_lab.data.cache import build_once, rows_fingerprint, settings_key, stat_key
from rnn_lab.data.corpus import Corpus, UnlabelledTexts
from rnn_lab.data.duplicates import split_hashes
from rnn_lab.data.encode import EncodedSplit, EncodedTexts
from rnn_lab.data.options import TextOptions
from rnn_lab.data.progress import progress_bar
from rnn_lab.data.readers.config import ReadConfig, read_options
from rnn_lab.data.readers.formats import known_format
from rnn_lab.data.readers.reading import ReadOptions
from rnn_lab.data.readers.records import EMPTY_TEXT, BadRow, RecordReader
from rnn_lab.data.storage import (
    ConcatenatedArrays,
    RaggedArray,
    RaggedArrayWriter,
    chunked,
    hash_bytes,
    hash_texts,
)
from rnn_lab.data.tokenize import tokenize_corpus
from rnn_lab.data.tokenizer_base import TEXTS_PER_CALL, Tokenizer, encode_texts
from rnn_lab.errors import DataError
from rnn_lab.paths import local_path

# The options of data=files that say how a file is read. Not its format: the ending says it.
_READING = (
    "encoding",
    "header",
    "columns",
    "delimiter",
    "quotechar",
    "text_column",
    "unlabelled_text_column",
)
_VERSION = 3  # part of the cache key; raise it when what is kept below changes


@dataclass(frozen=True)
class RunTexts:
    """The texts of a run: what is learned without labels beside the unlabelled texts."""

    corpus: Corpus
    train: EncodedSplit  # the training split, encoded by `vocabulary`
    rows: tuple[np.ndarray, np.ndarray]  # of the corpus's training texts: training, validation
    vocabulary: Tokenizer


@dataclass(frozen=True)
class EncodedUnlabelled:
    """The ids of the unlabelled texts that a run may learn from."""

    ids: RaggedArray  # uint32, memory-mapped
    words: np.ndarray  # uint64 [texts], as TextHashes.words; 0 with a word that the corpus lacks
    num_held_out: int  # texts left out, since they are also in validation or test
    texts_fingerprint: str  # sha256 (hex) of the texts themselves, whatever vocabulary they have

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the ids."""
        digest = hashlib.sha256(self.ids.offsets.tobytes())
        for _, values, _ in self.ids.chunks():
            digest.update(values.tobytes())
        return digest.hexdigest()

    @property
    def texts(self) -> EncodedTexts:
        """The texts that have a token."""
        lengths = np.diff(self.ids.offsets)
        rows = np.flatnonzero(lengths)
        return EncodedTexts(self.ids.values, self.ids.offsets[rows], lengths[rows])


@dataclass(frozen=True)
class PretrainingTexts:
    """The training texts and the unlabelled ones, as one split whose labels are all -1."""

    split: EncodedSplit
    about: dict[str, Any]  # for result.json: number of texts, fingerprint


def find_unlabelled(config: TextOptions) -> UnlabelledTexts | None:
    """Return the texts of `data.unlabelled`.

    Files are read as those of predict.py: the format is that of the ending, and the column of the
    texts is data.unlabelled_text_column, else data.text_column, else inferred. The other options of
    data=files that describe a table hold for them too, but for data.columns where the former is
    given. Blank lines are skipped.

    Raises:
        DataError: a file is missing. When the texts are read: a file is malformed, or a row is and
            data.on_bad_lines is not "skip".
    """
    named = config.unlabelled
    if named is None:
        return None
    if named is True:
        return config.own_unlabelled()
    assert not isinstance(named, bool)
    files = [local_path(path) for path in ([named] if isinstance(named, str) else named)]
    for file in files:
        if not file.is_file():
            problem = (
                "is a folder; give a file or a list of files" if file.is_dir() else "no such file"
            )
            raise DataError(f"data.unlabelled={file}: {problem}")
        if known_format(file) is None:
            raise DataError(f"data.unlabelled={file}: unknown file ending")
    options = ReadOptions(prefix="data.")
    if isinstance(config, ReadConfig):
        options = replace(read_options(config, prefix="data."), format=None, label_column=None)
    options = replace(options, text_option="unlabelled_text_column")
    if (column := config.unlabelled_text_column) is not None:
        text_column = tuple(column) if isinstance(column, list) else column
        options = replace(options, text_column=text_column, columns=())
    skips = getattr(config, "on_bad_lines", "error") == "skip"
    settings: dict[str, Any] = {name: getattr(config, name, None) for name in _READING}
    key = stat_key([file.absolute() for file in files], f"{sorted(settings.items())} {skips}")
    return UnlabelledTexts(key, lambda: _read(files, options, skips=skips))


def _read(files: list[Path], options: ReadOptions, *, skips: bool) -> Iterator[tuple[str, str]]:
    for file in files:
        for record in RecordReader(file, options, labelled=False):
            if not isinstance(record, BadRow):
                yield f"{file.name}:{record.line}", record.text
            elif record.reason != EMPTY_TEXT and not skips:
                raise DataError(
                    f"{file}:{record.line}: {record.reason} (data.on_bad_lines=skip skips such "
                    "rows of data=files)"
                )


def pretraining_texts(config: TextOptions, texts: RunTexts) -> PretrainingTexts:
    """Return the training texts, then those of data.unlabelled, without those of one token.

    A language model has nothing to predict in the latter.

    Raises:
        DataError: a file of unlabelled texts cannot be used, or no text has two tokens.
        WriteError: the cache cannot be written.
    """
    train, unlabelled = texts.train, find_unlabelled(config)
    ids = train.ids
    starts, lengths = train.starts, train.lengths
    about: dict[str, Any] = {"training": len(train)}
    if unlabelled is not None:
        encoded = encode_unlabelled(unlabelled, texts, Path(config.cache_dir))
        ids = ConcatenatedArrays(ids, encoded.ids.values)
        starts = np.concatenate([starts, encoded.ids.offsets[:-1] + len(train.ids)])
        lengths = np.concatenate([lengths, np.diff(encoded.ids.offsets)])
        about |= {"unlabelled": len(encoded.ids), "held_out": encoded.num_held_out}
        about["unlabelled_fingerprint"] = encoded.fingerprint
    used = np.flatnonzero(np.minimum(lengths, config.max_length) > 1)
    if not len(used):
        raise DataError(
            f"{texts.corpus.name}: no training text has two tokens or more (data.max_length="
            f"{config.max_length}), and a language model predicts a word from another one"
        )
    labels = np.full(len(used), -1, np.int64)
    return PretrainingTexts(EncodedSplit(ids, starts[used], lengths[used], labels), about)


def encode_unlabelled(
    unlabelled: UnlabelledTexts, texts: RunTexts, cache_dir: Path
) -> EncodedUnlabelled:
    """Return the ids of the unlabelled texts, but for those that are held out; cached.

    A text that occurs in validation or test, word by word, would teach a model what it is tested
    on.

    Raises:
        DataError: a file cannot be read, see `find_unlabelled`.
        WriteError: the cache cannot be written.
    """
    vocabulary = [*texts.vocabulary.version_key(), texts.vocabulary.fingerprint]
    settings = {
        "version": _VERSION,
        "corpus": texts.corpus.fingerprint,
        "rows": [rows_fingerprint(rows) for rows in texts.rows],
        "unlabelled": unlabelled.key,
        "vocabulary": vocabulary,
    }

    def build(folder: Path) -> None:
        about = _encode(unlabelled, texts, cache_dir, folder)
        (folder / "about.json").write_text(json.dumps(about))

    folder = build_once(cache_dir / "unlabelled" / settings_key(settings), build)
    about = json.loads((folder / "about.json").read_text())
    words = np.load(folder / "words.npy")
    return EncodedUnlabelled(RaggedArray.load(folder, "unlabelled"), words, **about)


def encode_some_unlabelled(
    unlabelled: UnlabelledTexts, texts: RunTexts, cache_dir: Path
) -> EncodedUnlabelled:
    """Return what `encode_unlabelled` does, for a run that cannot do without.

    Raises:
        DataError: a file cannot be read, or all texts are held out.
        WriteError: the cache cannot be written.
    """
    found = encode_unlabelled(unlabelled, texts, cache_dir)
    if not len(found.texts):
        raise DataError("data.unlabelled: has no text that is not in validation or test too")
    return found


def unlabelled_not_held_out(
    config: TextOptions, corpus: Corpus, rows: tuple[np.ndarray, np.ndarray]
) -> UnlabelledTexts | None:
    """Return the texts of data.unlabelled that a run may learn from; None: it names none.

    They are those of `encode_unlabelled`, in its order.

    Args:
        config: of the run.
        corpus: of the run.
        rows: of its training texts, see RunTexts.

    Raises:
        DataError: a file cannot be read, see `find_unlabelled`.
    """
    unlabelled = find_unlabelled(config)
    if unlabelled is None:
        return None
    cache_dir = Path(config.cache_dir)
    key = settings_key(
        {"unlabelled": unlabelled.key, "rows": [rows_fingerprint(of_split) for of_split in rows]}
    )

    def read() -> Iterator[tuple[str, str]]:
        held_out = _HeldOut(corpus, rows, cache_dir)
        return ((name, text) for name, text in unlabelled.read() if text not in held_out)

    return UnlabelledTexts(key, read)


def read_unlabelled(
    config: TextOptions, texts: RunTexts, places: Collection[int]
) -> dict[int, tuple[str, str]]:
    """Return name and text of the unlabelled texts at `places` of those that are not held out.

    Raises:
        DataError: a file cannot be read, see `find_unlabelled`.
    """
    if not places or (found := unlabelled_not_held_out(config, texts.corpus, texts.rows)) is None:
        return {}
    return {place: named for place, named in enumerate(found.read()) if place in places}


def _encode(
    unlabelled: UnlabelledTexts, texts: RunTexts, cache_dir: Path, folder: Path
) -> dict[str, Any]:
    """Write the ids and hashes of the texts that are not held out; return what describes them."""
    held_out = _HeldOut(texts.corpus, texts.rows, cache_dir)
    num_held_out, words, digest = 0, array("Q"), hashlib.sha256()
    with (
        RaggedArrayWriter(folder, "unlabelled", np.uint32) as file,
        progress_bar("Reading unlabelled texts", None) as advance,
    ):
        for chunk in chunked(unlabelled, TEXTS_PER_CALL):
            hashed = [(text, held_out.hash_words(text)) for text in chunk]
            kept = [(text, found) for text, found in hashed if found not in held_out.hashes]
            words.extend(found for _, found in kept)
            num_held_out += len(chunk) - len(kept)
            kept_texts = [text for text, _ in kept]
            digest.update(hash_texts(kept_texts).tobytes())
            ids = encode_texts(texts.vocabulary, kept_texts)
            lengths = np.array([len(one) for one in ids], np.int64)
            file.append(np.concatenate([[], *ids]).astype(np.uint32), lengths)
            advance(len(chunk))
    np.save(folder / "words.npy", np.array(words, np.uint64))
    return {"num_held_out": num_held_out, "texts_fingerprint": digest.hexdigest()}


class _HeldOut:
    """The texts of validation and test, word by word."""

    def __init__(
        self, corpus: Corpus, rows: tuple[np.ndarray, np.ndarray], cache_dir: Path
    ) -> None:
        hashes = split_hashes(corpus, cache_dir, *rows)
        others = [split.words for name, split in hashes.items() if name != "train"]
        self.hashes = set(chain.from_iterable(words.tolist() for words in others))
        tokens = tokenize_corpus(corpus, cache_dir).tokens
        self._number_of = {token: number for number, token in enumerate(tokens)}

    def __contains__(self, text: str) -> bool:
        return self.hash_words(text) in self.hashes

    def hash_words(self, text: str) -> int:
        """Return the hash of a text as TextHashes.words has it; 0 with an unknown word."""
        try:
            numbers = [self._number_of[word] for word in basic_english(text)]
        except KeyError:  # a word that no text of the corpus has
            return 0
        content = np.array(numbers, np.uint32).tobytes()
        return int(np.frombuffer(hash_bytes(content)[:8], np.uint64)[0])
