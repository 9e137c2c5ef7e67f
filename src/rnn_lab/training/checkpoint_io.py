"""Checkpoint files: whole or absent, and read without running anything that is in them."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from rnn_lab.errors import CheckpointError
from rnn_lab.io.atomic import atomic_write_bytes, translating_os_errors
from rnn_lab.io.safe_load import safe_load
from rnn_lab.io.schema import SCHEMA_KEY, SCHEMA_VERSION

BEST, LAST = "best.ckpt", "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints under a temporary name beside the place they are for.

    Lightning writes them in the system's temporary folder. From there to another disk they are
    copied and not renamed, and a kill leaves half a file in the place of the former one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to the file `path`; keep the best.ckpt before it for a while."""
        path = Path(path)
        with translating_os_errors(path):
            # Without its parents: a run whose folder was deleted is not to go on in half of one.
            path.parent.mkdir(exist_ok=True)
            if path.name == BEST:
                _keep_former(path)
        with atomic_write_bytes(path) as file:
            torch.save({SCHEMA_KEY: SCHEMA_VERSION} | checkpoint, file)
        if path.name == LAST:
            with translating_os_errors(path):
                _former(path.with_name(BEST)).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint of a training holds: numbers, names and tensors.

    Raises:
        UnsafeCheckpointError: it would run code.
        CheckpointError: it is damaged, or holds anything else. No message has the path.
    """
    content = safe_load(path)
    if not isinstance(content, dict):
        raise CheckpointError("not a checkpoint of a training")
    return content


def restore_best(folder: Path) -> None:
    """Put back the best.ckpt that last.ckpt knows of, where the run was killed between the two."""
    former = _former(folder / BEST)
    if former.exists():
        former.replace(folder / BEST)
        former.unlink(missing_ok=True)  # two names of one file: then `replace` leaves both


def _former(best: Path) -> Path:
    return best.with_name(f".{best.name}.former")


def _keep_former(best: Path) -> None:
    former = _former(best)
    if not best.exists() or former.exists():
        return
    try:
        os.link(best, former)
    except OSError:  # a file system without hard links
        partial = former.with_name(f"{former.name}.partial")
        shutil.copyfile(best, partial)
        partial.replace(former)
