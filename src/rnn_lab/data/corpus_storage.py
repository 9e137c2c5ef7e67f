"""A corpus on disk, opened memory-mapped: a second start parses nothing and loads nothing."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rnn_lab.data.array_storage import open_array
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.text_storage import MemmapTexts, utf8_chunks, utf8_offsets, write_texts
from rnn_lab.errors import DataError

STORE_FORMAT = 2  # part of every cache key: a change of layout here must raise it


def content_fingerprint(class_names: Sequence[str], splits: Iterable[Split | None]) -> str:
    """The sha256, in hex, of classes, texts, labels, names and groups, in their order."""
    digest = hashlib.sha256(json.dumps(list(class_names)).encode())

    def update(dtype: str, size: int, pieces: Iterable[bytes]) -> None:
        digest.update(f"{dtype}({size},)".encode())
        for piece in pieces:
            digest.update(piece)

    for split in splits:
        if split is None:
            digest.update(b"no split")
            continue
        for numbers in (split.labels, split.groups):
            if numbers is not None:
                update(numbers.dtype.str, len(numbers), [numbers.tobytes()])
        for texts in (split.texts, split.names):
            offsets = utf8_offsets(texts)
            update("|u1", offsets[-1], utf8_chunks(texts))
            update(offsets.dtype.str, len(offsets), [offsets.tobytes()])
    return digest.hexdigest()


def write_corpus(corpus: Corpus, folder: Path) -> None:
    """Write every split as plain arrays into `folder`, and the rest as meta.json.

    Texts that are elsewhere on disk are copied some at a time.
    """
    for name, split in corpus.splits.items():
        np.save(folder / f"{name}_labels.npy", split.labels)
        if split.groups is not None:
            np.save(folder / f"{name}_groups.npy", split.groups)
        write_texts(split.texts, folder, f"{name}_texts")
        write_texts(split.names, folder, f"{name}_names")
    write_texts(corpus.skipped, folder, "skipped")
    meta = {
        "name": corpus.name,
        "class_names": corpus.class_names,
        "fingerprint": corpus.fingerprint,
        "synthetic": corpus.synthetic,
        "splits": list(corpus.splits),
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
            skipped=MemmapTexts.open(folder, "skipped"),
        )
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: this cache is damaged, delete the folder: {error}") from error


def _open_split(folder: Path, name: str) -> Split:
    groups = folder / f"{name}_groups.npy"
    return Split(
        texts=MemmapTexts.open(folder, f"{name}_texts"),
        labels=open_array(folder / f"{name}_labels.npy"),
        names=MemmapTexts.open(folder, f"{name}_names"),
        groups=open_array(groups) if groups.exists() else None,
    )


def stat_key(files: Iterable[Path | os.DirEntry[str]], options: str = "") -> str:
    """A cache key for what is read from files in their present state, told by their stat alone.

    The paths should be absolute and in an order of their own, so that a key means the same files
    from every working folder.
    """
    digest = hashlib.sha256(f"{STORE_FORMAT}\n{options}".encode())
    for path in files:
        stat = path.stat()
        line = f"\n{os.fspath(path)} {stat.st_size} {stat.st_mtime_ns}"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
