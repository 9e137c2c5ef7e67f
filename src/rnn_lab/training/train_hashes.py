"""The hashes of the texts that a run was trained on, by which later ones are recognized."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rnn_lab.data.corpus import Split
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.io.atomic import atomic_write_bytes
from rnn_lab.io.run_file import run_folder

TRAIN_HASHES = "train_hashes.npy"
MAX_HASHED_TEXTS = 2**20  # of the training split: 8 MiB
_NPY_HEADER_BYTES = 4096


def write_train_hashes(path: Path, data: TextDataModule) -> None:
    """Write the distinct 64-bit hashes of the training texts, sorted, if they are not too many."""
    hashes = np.unique(data.examples_of("train").text_hashes[:, 0])
    if len(hashes) <= MAX_HASHED_TEXTS:
        with atomic_write_bytes(path) as file:
            np.save(file, hashes)


def read_train_hashes(checkpoint: Path) -> np.ndarray | None:
    """Return what `write_train_hashes` wrote for the run of a checkpoint, uint64 [texts].

    None if there is no run folder around it, or no such file in it, or a damaged one.
    """
    folder = run_folder(checkpoint)
    if folder is None or not (path := folder / TRAIN_HASHES).is_file():
        return None
    try:
        if path.stat().st_size > 8 * MAX_HASHED_TEXTS + _NPY_HEADER_BYTES:
            return None
        hashes = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64 or hashes.ndim != 1:
        return None
    return hashes


def count_trained_on(checkpoints: Iterable[Path], texts: Split) -> int | None:
    """Return how many of `texts` are, word for word, among those that one of the runs trained on.

    Runs whose hashes cannot be read are not counted; None: those of no run can.
    """
    found = [hashes for path in checkpoints if (hashes := read_train_hashes(path)) is not None]
    return int(np.isin(texts.text_hashes[:, 0], np.concatenate(found)).sum()) if found else None
