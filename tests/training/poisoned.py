"""Runs of train.py in which one review's loss is not a number in the second epoch.

python -m tests.training.poisoned <folder>
"""

import json
import math
import os
import sys
from pathlib import Path

from tests.cli.forked import import_all
from tests.training.aims import arm
from tests.training.killing import differences, end_of, leavings, start

ARGUMENTS = [
    *("experiment=smoke", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2"),
    *(
        "data.num_train=200",
        "trainer.checkpoint_every_n_steps=5",
        "model.dropout=0.5",
        "plots=false",
    ),
]
POISON = 7  # the row of the review
BACK = "trainer.on_nonfinite=rollback"


def poison() -> None:
    """Spoil the loss of the batch that has the review, in the second epoch."""
    from rnn_lab.models.lightning_module import TextClassifier

    step = TextClassifier.training_step

    def spoilt(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        bad = self.current_epoch == 1 and bool((batch.indices == POISON).any())
        return loss * math.nan if bad else loss

    TextClassifier.training_step = spoilt


def poison_and_die() -> None:
    """The same, and die while a checkpoint is written after going back."""
    poison()
    arm({"call": "os.fsync", "number": int(os.environ["DIE_AT"])})


def main() -> None:
    """Make the runs and print what they left."""
    cwd = Path(sys.argv[1])
    import_all()
    os.environ["DIE_AT"] = "5"

    def run(name, before, *options):
        return end_of(start([*ARGUMENTS, *options, f"hydra.run.dir={name}"], cwd, before))

    statuses = {
        "whole": [run("whole", poison, BACK)],
        "stopped": [run("stopped", poison), run("stopped", poison, BACK)],
        "killed": [run("killed", poison_and_die, BACK), run("killed", poison, BACK)],
    }

    def left(name):
        found = leavings(cwd / name)
        for rollback in found["result.json"]["rollbacks"]:
            del rollback["why"]  # it names the folder
        return found

    expected = left("whole")
    differ = {name: list(differences(expected, left(name))) for name in ("stopped", "killed")}
    print(json.dumps({"statuses": statuses, "differences": differ}))


if __name__ == "__main__":
    main()
