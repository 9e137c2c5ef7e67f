"""Labelled texts as every source returns them, in memory or in a cache on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from rnn_lab.data.storage import (
    ArrayWriter,
    MemmapTexts,
    TextWriter,
    hash_bytes,
    hash_texts,
    open_array,
)
from rnn_lab.errors import DataError

SPLITS = ("train", "validation", "test")
Task = Literal["multiclass", "multilabel"]
_CHUNK_ROWS = 2**16


@dataclass(frozen=True)
class Split:
    """Labelled texts. Every field has one entry per example.

    Raises:
        DataError: `texts` are no sequence of str.
    """

    texts: Sequence[str]
    # int64, indices into Corpus.class_names; or, where a text has any number of labels, uint8
    # [examples, classes]: 1 for each that it has.
    labels: np.ndarray
    names: Sequence[str] = ()  # where each text is from: "train/pos/0_9.txt"; default: its number
    groups: np.ndarray | None = None  # int64, examples that splits keep together
    hashes: np.ndarray | None = None  # uint64 [examples, 2], see hash_texts; default: computed

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen
        _check_texts(self.texts)
        set_field(self, "labels", _as_integers(self.labels))
        if self.groups is not None:
            set_field(self, "groups", _as_integers(self.groups))
        if not len(self.names):
            set_field(self, "names", [str(row) for row in range(len(self.labels))])
        if self.hashes is None:
            set_field(self, "hashes", hash_texts(self.texts))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def text_hashes(self) -> np.ndarray:
        """The field `hashes`, which is never None once the split exists."""
        assert self.hashes is not None
        return self.hashes

    def take(self, rows: np.ndarray) -> Split:
        """Return the examples at `rows`, in that order. Texts on disk stay on disk."""
        return Split(
            texts=_take(self.texts, rows),
            labels=self.labels[rows],
            names=_take(self.names, rows),
            groups=None if self.groups is None else self.groups[rows],
            hashes=self.text_hashes[rows],
        )


@dataclass(frozen=True)
class Corpus:
    """A data set: its splits, its classes and a fingerprint of its content."""

    name: str  # "imdb", "demo", "files", ...: names runs and messages
    class_names: tuple[str, ...]
    train: Split
    validation: Split | None = None  # None: split off `train`, see data.val_split
    test: Split | None = None
    fingerprint: str = ""  # default: content_fingerprint
    synthetic: bool = False  # texts that no one wrote: reports say so
    skipped: Sequence[str] = ()  # one line for each row that could not be used
    # How each file was read: format, encoding, columns, ..., by the option that names the file.
    source_info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    terms: str | None = None  # whose texts they are and on what terms: model cards say it

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if not self.fingerprint:
            fingerprint = content_fingerprint(self.class_names, self.splits)
            object.__setattr__(self, "fingerprint", fingerprint)

    @property
    def is_multilabel(self) -> bool:
        """Whether a text has any number of labels, not one."""
        return self.train.labels.ndim == 2

    @property
    def task(self) -> Task:
        """The name of the task: whether a text has one label or any number of them."""
        return "multilabel" if self.is_multilabel else "multiclass"

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name, in the order train, validation, test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def _check_texts(texts: Any) -> None:
    """Raise a DataError for the texts of a user's source that are no sequence of str."""
    if isinstance(texts, str) or not hasattr(texts, "__len__"):
        kind = type(texts).__name__
        raise DataError(f"Split: texts is a {kind}, expected a list of texts")
    if isinstance(texts, list | tuple):
        wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            kind = type(texts[wrong]).__name__
            raise DataError(f"Split: texts[{wrong}] is a {kind}, expected str")


def _as_integers(values: ArrayLike) -> np.ndarray:
    """Return values as int64, or uint8 where they have two dimensions.

    Where that would change one, as 0.5 or text, return them as they are: load_corpus refuses them.
    """
    try:
        given = np.atleast_1d(np.asarray(values))
        with np.errstate(invalid="ignore"):  # NaN
            integers = given.astype(np.uint8 if given.ndim == 2 else np.int64, copy=False)
    except (TypeError, ValueError, OverflowError):
        return np.array(values, dtype=object, ndmin=1)
    return integers if np.array_equal(integers, given) else given


def _take(texts: Sequence[str], rows: np.ndarray) -> Sequence[str]:
    return texts.take(rows) if isinstance(texts, MemmapTexts) else [texts[row] for row in rows]


def content_fingerprint(class_names: Sequence[str], splits: Mapping[str, Split]) -> str:
    """Return a sha256 (hex) over classes, texts, labels, names and groups, in their order.

    The texts enter by their hashes, which are computed when the texts are written, so that no text
    is read again.
    """
    digest = hashlib.sha256()

    def update(what: str, chunks: Iterable[bytes]) -> None:
        size = 0
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
        digest.update(f"\n{what} {size}\n".encode())

    update("classes", [json.dumps(list(class_names)).encode()])
    for split_name, split in splits.items():
        for field, values in (
            ("labels", split.labels),
            ("groups", split.groups),
            ("texts", split.text_hashes),
        ):
            if values is not None:
                update(f"{split_name} {field}", _chunk_bytes(values))
        names = (name.encode("utf-8", "surrogatepass") for name in split.names)
        update(f"{split_name} names", (b"%d:%s" % (len(name), name) for name in names))
    return digest.hexdigest()


def fingerprint_test_split(corpus: Corpus) -> str | None:
    """Return a sha256 (hex) over name, text and label of each test example, in any order.

    Equal ones mean that two runs were tested on the same texts. None: there is no test split.
    """
    if (test := corpus.test) is None:
        return None
    rows = zip(test.names, test.text_hashes, test.labels, strict=True)
    examples = sorted(
        (name, text.tobytes().hex(), [corpus.class_names[i] for i in _classes(label)])
        for name, text, label in rows
    )
    return hashlib.sha256(json.dumps(examples).encode()).hexdigest()


def _classes(label: np.ndarray) -> list[int]:
    """Return the classes of one example: of an index, or of a row of 0 and 1."""
    return [int(label)] if label.ndim == 0 else np.flatnonzero(label).tolist()


def _chunk_bytes(values: np.ndarray) -> Iterable[bytes]:
    for first in range(0, len(values), _CHUNK_ROWS):
        yield values[first : first + _CHUNK_ROWS].tobytes()


def check_task(corpus: Corpus, task: Task) -> None:
    """Raise a DataError if the texts are not of the task of a run."""
    if corpus.task == task:
        return
    if corpus.is_multilabel:
        raise DataError(
            f"{corpus.name}: the texts have any number of labels, and the run predicts one each"
        )
    raise DataError(
        f"{corpus.name}: the texts have one label each, and the run predicts any number; set "
        "data.label_separator, or data.label_column=[...] for columns of 0 and 1"
    )


def relabel(labels: np.ndarray, names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Return labels by their indices into `known`, not `names`; as in Split, both.

    Raises:
        DataError: one of `names` is not known.
    """
    for name in names:
        if name not in known:
            raise DataError(
                f"unknown label {name!r}; the classes of the run are: {', '.join(known)}"
            )
    new_label = np.array([known.index(name) for name in names], dtype=np.int64)  # [names]
    if labels.ndim == 1:
        return new_label[labels]
    found = np.zeros((len(labels), len(known)), dtype=np.uint8)
    found[:, new_label] = labels
    return found


class CorpusWriter:
    """Write a corpus into a folder as its texts arrive, in one pass; `open_corpus` reads it.

    The texts may arrive in any order: `finish` says which rows form which split. Use it in a
    `with` statement and call `finish` within.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts, self._names = TextWriter(folder, "texts"), TextWriter(folder, "names")
        self._hashes = ArrayWriter(folder / "hashes.npy", np.uint64)
        self._skipped = TextWriter(folder, "skipped")
        self._rows = 0
        self.num_skipped, self.first_skipped = 0, ""

    def append(self, text: str, name: str) -> None:
        """Append a text and where it is from."""
        encoded = text.encode("utf-8")
        self._texts.append(encoded)
        self._hashes.append(hash_bytes(encoded))
        self._names.append(_replaced(name))
        self._rows += 1

    def skip(self, line: str) -> None:
        """Record a row that cannot be used, as one line."""
        self._skipped.append(_replaced(line))
        self.num_skipped, self.first_skipped = self.num_skipped + 1, self.first_skipped or line

    @property
    def rows(self) -> int:
        """The number of texts so far: the row of the next one."""
        return self._rows

    def finish(
        self,
        name: str,
        class_names: Sequence[str],
        *,
        rows: Mapping[str, np.ndarray],
        labels: np.ndarray,
        groups: np.ndarray | None = None,
        source_info: Mapping[str, Any] | None = None,
    ) -> None:
        """Complete the folder.

        Args:
            name: of the corpus.
            class_names: of its labels.
            rows: of each split, int64, by its name: "train" and perhaps "validation", "test".
            labels: of all rows, int64 [rows] or uint8 [rows, classes], see Split.
            groups: of all rows, int64 [rows], where known.
            source_info: as in Corpus.
        """
        self.__exit__()
        for split in rows:
            for field, values in (("rows", rows[split]), ("labels", labels[rows[split]])):
                np.save(self._folder / f"{split}_{field}.npy", values)
            if groups is not None:
                np.save(self._folder / f"{split}_groups.npy", groups[rows[split]])
            self._write_hashes(split, rows[split])
        names = [split for split in SPLITS if split in rows]
        splits = {split: _open_split(self._folder, split) for split in names}
        meta = {
            "name": name,
            "class_names": list(class_names),
            "splits": names,
            "source_info": dict(source_info or {}),
            "fingerprint": content_fingerprint(class_names, splits),
        }
        (self._folder / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")

    def _write_hashes(self, split: str, rows: np.ndarray) -> None:
        hashes = _open_hashes(self._folder / "hashes.npy")
        with ArrayWriter(self._folder / f"{split}_hashes.npy", np.uint64) as file:
            for first in range(0, len(rows), _CHUNK_ROWS):
                file.append(hashes[rows[first : first + _CHUNK_ROWS]])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for writer in (self._texts, self._names, self._hashes, self._skipped):
            writer.__exit__(*error)


def _replaced(text: str) -> bytes:
    """Return text with names of files, which may have any bytes, in UTF-8."""
    return text.encode("utf-8", "replace")


def open_corpus(folder: Path) -> Corpus:
    """Open the folder of a CorpusWriter without reading any text.

    Raises:
        DataError: the folder is damaged.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        splits = {name: _open_split(folder, name) for name in meta["splits"]}
        return Corpus(
            name=meta["name"],
            class_names=tuple(meta["class_names"]),
            train=splits["train"],
            validation=splits.get("validation"),
            test=splits.get("test"),
            fingerprint=meta["fingerprint"],
            skipped=MemmapTexts.open(folder, "skipped"),
            source_info=meta["source_info"],
        )
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: this cache is damaged, delete the folder: {error}") from error


def _open_split(folder: Path, name: str) -> Split:
    rows, groups = open_array(folder / f"{name}_rows.npy"), folder / f"{name}_groups.npy"
    return Split(
        texts=MemmapTexts.open(folder, "texts", rows),
        labels=open_array(folder / f"{name}_labels.npy"),
        names=MemmapTexts.open(folder, "names", rows),
        groups=open_array(groups) if groups.exists() else None,
        hashes=_open_hashes(folder / f"{name}_hashes.npy"),
    )


def _open_hashes(path: Path) -> np.ndarray:
    return open_array(path).reshape(-1, 2)


@dataclass(frozen=True)
class UnlabelledTexts:
    """Texts without labels, which are read again at each iteration."""

    key: str  # of a cache of what is made of them
    read: Callable[[], Iterator[tuple[str, str]]]  # where each text is from, and the text

    def __iter__(self) -> Iterator[str]:
        return (text for _, text in self.read())
