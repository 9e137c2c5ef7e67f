"""Checkpoint files: written atomically, and read without running anything in them."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.errors import CheckpointError
from rnn_lab.io.atomic import atomic_write_bytes, translating_os_errors
from rnn_lab.io.safe_load import safe_load
from rnn_lab.io.schema import SCHEMA_KEY, SCHEMA_VERSION
from rnn_lab.runs.run_folder import BEST, LAST

BEST_STATE = "BestCheckpoint"  # key of a checkpoint for the state of the callback
RESUME = "resume"  # key of a checkpoint for what Lightning does not save


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that a run resumes from, and what it holds beside Lightning's own state."""

    path: Path
    state: Mapping[str, Any]  # what it has under RESUME
    global_step: int
    changed: tuple[str, ...] = ()  # options with other values than those of the checkpoint
    extends: bool = False  # a complete training, which continues with more epochs
    is_copy: bool = False  # of a run in another folder

    @property
    def metrics_rows(self) -> int:
        """Rows of metrics.csv that were written before the checkpoint."""
        return int(self.state["metrics_rows"])


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints under a temporary name in their folder, then rename them.

    Lightning writes to the system's temporary folder. Moving a file from there to another disk
    copies it, and a kill leaves half a file in place of the earlier one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`; keep the earlier best.ckpt until last.ckpt is written."""
        path = Path(path)
        with translating_os_errors(path):
            # Without its parents: a run whose folder was deleted must not continue in a new one.
            path.parent.mkdir(exist_ok=True)
            if path.name == BEST:
                _keep_earlier(path)
        with atomic_write_bytes(path) as file:
            torch.save({SCHEMA_KEY: SCHEMA_VERSION} | checkpoint, file)
        if path.name == LAST:
            with translating_os_errors(path):
                _earlier(path.with_name(BEST)).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a training checkpoint: numbers, names and tensors.

    Tensors stay in the file until they are used.

    Raises:
        UnsafeCheckpointError: it would run code.
        CheckpointError: it is damaged, or holds anything else. No message has the path.
    """
    content = safe_load(path, mmap=True)
    if not isinstance(content, dict):
        raise CheckpointError("not a checkpoint of a training")
    return content


@rank_zero_only
def restore_best(folder: Path) -> None:
    """Restore the best.ckpt that belongs to last.ckpt, where a kill came between the two."""
    earlier = _earlier(folder / BEST)
    if earlier.exists():
        if not _is_best_of(folder / BEST, folder / LAST):
            earlier.replace(folder / BEST)
        earlier.unlink(missing_ok=True)  # two names of one file: then `replace` leaves both


def _is_best_of(best: Path, last: Path) -> bool:
    """Return whether last.ckpt was written after best.ckpt: a kill may come before the cleanup."""
    try:
        step = read_checkpoint(last)["callbacks"][BEST_STATE]["step"]
        return bool(step == read_checkpoint(best)["global_step"])
    except (CheckpointError, KeyError, TypeError):
        return False


def _earlier(best: Path) -> Path:
    return best.with_name(f".{best.name}.earlier")


def _keep_earlier(best: Path) -> None:
    earlier = _earlier(best)
    if not best.exists() or earlier.exists():
        return
    try:
        os.link(best, earlier)
    except OSError:  # a file system without hard links
        partial = earlier.with_name(f"{earlier.name}.partial")
        shutil.copyfile(best, partial)
        partial.replace(earlier)
