"""Rollbacks of a run: returns to its last checkpoint after a non-finite step."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rnn_lab.io.atomic import read_json, write_json
from rnn_lab.process import is_rank_zero

ROLLBACKS = "rollbacks.json"  # in the output folder


@dataclass(frozen=True)
class Rollback:
    """Where a training became non-finite, and the checkpoint it resumed from."""

    step: int  # of the optimizer, from 0
    epoch: int
    batches: tuple[int, ...]  # of the epoch, from 0: excluded from now on
    to_step: int  # of the checkpoint; 0: the start
    why: str


_ROLLBACKS = TypeAdapter(tuple[Rollback, ...])


class RollbackRequestedError(Exception):
    """The training is to resume from its last checkpoint, after `rollbacks`, the latest last."""

    def __init__(self, rollbacks: tuple[Rollback, ...]) -> None:
        last = rollbacks[-1]
        without = f" and without batch {', '.join(map(str, last.batches))}" if last.batches else ""
        to = f"rolls back to step {last.to_step}, with half the learning rate{without}"
        super().__init__(f"{last.why}; {to}")
        self.rollbacks = rollbacks


def write_rollbacks(folder: Path, rollbacks: Sequence[Rollback]) -> None:
    """Write the rollbacks of the run in `folder`, for a process that resumes it."""
    write_json(folder / ROLLBACKS, {"rollbacks": [asdict(one) for one in rollbacks]})


def read_rollbacks(folder: Path) -> tuple[Rollback, ...]:
    """Return the rollbacks of the unfinished run in `folder`; of a damaged file none."""
    path = folder / ROLLBACKS
    if not os.path.lexists(path):
        return ()
    try:
        return _ROLLBACKS.validate_python((read_json(path) or {}).get("rollbacks"))
    except ValidationError:
        if is_rank_zero():
            print(f"{path}: damaged; the run continues without its rollbacks", file=sys.stderr)
        return ()


def excluded_batches(rollbacks: Sequence[Rollback]) -> frozenset[tuple[int, int]]:
    """Return the epoch and number of each batch that is excluded from training."""
    return frozenset((one.epoch, number) for one in rollbacks for number in one.batches)
