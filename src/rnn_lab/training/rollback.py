"""Rollbacks of a run: returns to its last checkpoint after a non-finite step."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rnn_lab.io.atomic import write_json

ROLLBACKS = "rollbacks.json"  # in the output folder


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
        last = rollbacks[-1]
        without = f" and without batch {', '.join(map(str, last.batches))}" if last.batches else ""
        to = f"rolls back to step {last.to_step}, with half the learning rate{without}"
        super().__init__(f"{last.why}; {to}")
        self.rollbacks = rollbacks


def write_rollbacks(folder: Path, rollbacks: Sequence[Rollback]) -> None:
    """Write the rollbacks of the run in `folder`, for a process that resumes it."""
    write_json(folder / ROLLBACKS, {"rollbacks": [asdict(one) for one in rollbacks]})


def read_rollbacks(folder: Path) -> tuple[Rollback, ...]:
    """Return the rollbacks of the unfinished run in `folder`."""
    try:
        found = json.loads((folder / ROLLBACKS).read_text(encoding="utf-8"))["rollbacks"]
    except (OSError, ValueError, KeyError):
        return ()
    return tuple(Rollback(**one | {"batches": tuple(one["batches"])}) for one in found)


def excluded_batches(rollbacks: Sequence[Rollback]) -> frozenset[tuple[int, int]]:
    """Return the epoch and number of each batch that is excluded from training."""
    return frozenset((one.epoch, number) for one in rollbacks for number in one.batches)
