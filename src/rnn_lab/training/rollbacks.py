"""The rollbacks of a run to its last checkpoint: what is saved of them, and printed."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_only

ROLLBACKS = "rollbacks.json"  # in the run folder


@dataclass(frozen=True)
class Rollback:
    """Where a training became non-finite, and the checkpoint it resumed from."""

    step: int  # of the optimizer, from 0
    epoch: int
    batches: tuple[int, ...]  # of the epoch, from 0: excluded from now on
    to_step: int  # of the checkpoint; 0: the start
    why: str


class RollbackRequestedError(Exception):
    """The training is to resume from its last checkpoint, after `rollbacks`, the latest last."""

    def __init__(self, rollbacks: tuple[Rollback, ...]) -> None:
        super().__init__(rollbacks[-1].why)
        self.rollbacks = rollbacks


@rank_zero_only
def print_rollback(rollbacks: tuple[Rollback, ...]) -> None:
    """Print why, and where the training resumes after the latest rollback."""
    latest = rollbacks[-1]
    without = f" and without batch {', '.join(map(str, latest.batches))}" if latest.batches else ""
    line = (
        f"{latest.why}; rolls back to step {latest.to_step}, with half the learning rate{without}"
    )
    print(line, file=sys.stderr, flush=True)


def read_rollbacks(folder: Path) -> tuple[Rollback, ...]:
    """Return the rollbacks of the unfinished run in `folder`."""
    try:
        found = json.loads((folder / ROLLBACKS).read_text(encoding="utf-8"))["rollbacks"]
    except (OSError, ValueError, KeyError):
        return ()
    return tuple(Rollback(**one | {"batches": tuple(one["batches"])}) for one in found)


def excluded_batches(rollbacks: tuple[Rollback, ...]) -> frozenset[tuple[int, int]]:
    """Return the epoch and number of each batch that is excluded from training."""
    return frozenset((one.epoch, number) for one in rollbacks for number in one.batches)
