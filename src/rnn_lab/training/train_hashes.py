"""The hashes of the texts that a run was trained on, by which later ones are recognized."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.data.corpus import Split
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.io.atomic import atomic_write_bytes
from rnn_lab.runs.run_folder import run_folder
from rnn_lab.training.data_report import WARNING_SHARE

log = logging.getLogger(__name__)

TRAIN_HASHES = "train_hashes.npy"
MAX_HASHED_TEXTS = 2**20  # of the training split: 8 MiB
_NPY_HEADER_BYTES = 4096
_OF_DUPLICATES = (
    "they are duplicates, which this run is trained on too; give both runs "
    "data.drop_duplicates=true"
)


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


def all_train_hashes(checkpoints: Iterable[Path]) -> np.ndarray | None:
    """Return the hashes of the runs of `checkpoints`, uint64 [texts].

    Runs whose hashes cannot be read are left out; None: those of no run can.
    """
    found = [hashes for path in checkpoints if (hashes := read_train_hashes(path)) is not None]
    return np.concatenate(found) if found else None


def count_trained_on(hashes: np.ndarray, texts: Split) -> int:
    """Return how many of `texts` are, word for word, among those of `all_train_hashes`."""
    return int(np.isin(texts.text_hashes[:, 0], hashes).sum())


@rank_zero_only
def warn_of_shared_texts(
    option: str, checkpoints: Sequence[Path], data: TextDataModule, trained_on: str, advice: str
) -> None:
    """Warn where the runs of `option` were trained on texts that validate or test this one.

    `trained_on` says how, as in "was trained on"; `advice` is how to avoid it, but for duplicates:
    texts that this run is trained on too. Where no run has the hashes of its texts, a line says so.
    """
    hashes = all_train_hashes(checkpoints)
    if hashes is None:
        print(
            f"{option}: cannot tell which texts it {trained_on}: no {TRAIN_HASHES} in a run "
            "folder around it",
            flush=True,
        )
        return
    own = np.unique(data.examples_of("train").text_hashes[:, 0])
    for split in ("validation", "test"):
        if split not in data.splits:
            continue
        texts = data.examples_of(split)
        shared = count_trained_on(hashes, texts)
        if shared >= WARNING_SHARE * len(texts):
            duplicates = count_trained_on(np.intersect1d(hashes, own), texts)
            log.warning(
                "%s %s %s of the %s %s texts, so that the metrics of this run may be too good: %s",
                *(option, trained_on, f"{shared:,}", f"{len(texts):,}", split),
                _OF_DUPLICATES if duplicates == shared else advice,
            )


def same_split_options(data: TextDataModule) -> str:
    """Return the options that give two runs on the same files the same splits."""
    same = "the same seed, or the same data.split_seed"
    if getattr(data.config, "fold", None) is not None:
        same = "the same data.split_seed and data.fold"
    return f"{same}, and data.drop_duplicates=true" if data.config.drop_duplicates else same
