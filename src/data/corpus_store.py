"""A corpus on disk, opened memory-mapped: a second start parses nothing and loads nothing."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np

from src.data.corpus import Corpus, Split
from src.errors import DataError

STORE_FORMAT = 1  # part of every cache key: a change of layout here must raise it


class StoredTexts(Sequence[str]):
    """Texts in one UTF-8 blob [bytes], cut at `offsets` [texts + 1] and decoded when asked for."""

    def __init__(self, blob: np.ndarray, offsets: np.ndarray) -> None:
        self._bytes = blob.data
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # counts negative indices and raises IndexError
        return str(self._bytes[self._offsets[number] : self._offsets[number + 1]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        for start, end in pairwise(self._offsets.tolist()):
            yield str(self._bytes[start:end], "utf-8")


def content_fingerprint(class_names: Sequence[str], splits: Iterable[Split | None]) -> str:
    """The sha256, in hex, of classes, texts, labels, names and groups, in their order."""
    digest = hashlib.sha256(json.dumps(list(class_names)).encode())
    for split in splits:
        if split is None:
            digest.update(b"no split")
            continue
        for part in _arrays(split).values():
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(part.tobytes())
    return digest.hexdigest()


def write_corpus(corpus: Corpus, folder: Path) -> None:
    """Write every split as plain arrays into `folder`, and the rest as meta.json."""
    splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    kept = {name: split for name, split in splits.items() if split is not None}
    for name, split in kept.items():
        for part, array in _arrays(split).items():
            np.save(folder / f"{name}_{part}.npy", array)
    meta = {
        "name": corpus.name,
        "class_names": corpus.class_names,
        "fingerprint": corpus.fingerprint,
        "synthetic": corpus.synthetic,
        "skipped": corpus.skipped,
        "splits": list(kept),
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")


def open_corpus(folder: Path) -> Corpus:
    """Open what `write_corpus` wrote, without reading any text.

    Raises:
        DataError: the folder is not whole.
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
            synthetic=meta["synthetic"],
            skipped=tuple(meta["skipped"]),
        )
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: this cache is damaged, delete the folder: {error}") from error


def _arrays(split: Split) -> dict[str, np.ndarray]:
    arrays = {"labels": split.labels}
    if split.groups is not None:
        arrays["groups"] = split.groups
    for part, texts in (("texts", split.texts), ("names", split.names)):
        encoded = [text.encode("utf-8") for text in texts]
        arrays[part] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return arrays


def _open_split(folder: Path, name: str) -> Split:
    def array(part: str) -> np.ndarray:
        # np.asarray: the same mapped memory, without np.memmap's slow indexing
        return np.asarray(np.load(folder / f"{name}_{part}.npy", mmap_mode="r"))

    return Split(
        texts=StoredTexts(array("texts"), array("texts_offsets")),
        labels=array("labels"),
        names=StoredTexts(array("names"), array("names_offsets")),
        groups=array("groups") if (folder / f"{name}_groups.npy").exists() else None,
    )


def stat_key(files: Iterable[Path | os.DirEntry[str]], options: str = "") -> str:
    """A cache key for what is read from files in their present state, told by their stat alone.

    The paths should be absolute, so that a key means the same files from every working folder.
    """
    lines = []
    for path in files:
        stat = path.stat()
        lines.append(f"{os.fspath(path)} {stat.st_size} {stat.st_mtime_ns}")
    text = "\n".join([str(STORE_FORMAT), options, *sorted(lines)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
