"""A run that was killed goes on where it was."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doors.runner import PROJECT, door_environment

SMALL = (
    *("experiment=smoke", "logger=csv", "trainer=cpu", "model.dropout=0.5"),
    *("data.num_train=200", "data.num_test=40", "model.embedding_dim=8", "model.hidden_size=8"),
)  # six batches an epoch


def kill(cwd: Path, *arguments: str, **plan: Any) -> dict[str, dict[str, Any]]:
    """Carry out a plan of tests/training/killing.py."""
    plan["arguments"] = [*SMALL, *arguments]
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killing", str(cwd), json.dumps(plan)],
        cwd=PROJECT,
        env=door_environment(cwd),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr + (cwd / "log").read_text()
    return json.loads(done.stdout)


def test_killed_in_a_step_and_while_a_checkpoint_is_written_it_ends_with_the_same_bits(tmp_path):
    """First in a step within an epoch, then in writing last.ckpt within the next epoch."""
    kills = [("torch.Tensor", "backward", 6), ("os", "fsync", 3)]
    found = kill(
        tmp_path,
        *("trainer.max_epochs=2", "trainer.checkpoint_every_n_steps=2"),
        *("trainer.gradient_flow=3", "trainer.log_every_n_steps=1"),
        runs={"killed": [{"call": call} for call in kills]},
    )
    assert found["killed"]["statuses"] == [-9, -9, 0]
    assert found["killed"]["differences"] == []
    log = (tmp_path / "log").read_text()
    assert "goes on in epoch 0 after 4 batches (step 4)" in log


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("trainer.accumulate_grad_batches=2", "trainer.gradient_flow=epoch", "logger=wandb"),
        ("data.batch_tokens=3000", "data.max_length=300", "data.num_workers=1"),
    ],
)
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path, options):
    found = kill(
        tmp_path,
        *("trainer.max_epochs=4", "trainer.patience=1", *options),
        *("trainer.checkpoint_every_n_minutes=0.0005",),
        random=3,
        seed=len(options),
    )
    assert all(run["differences"] == [] for run in found.values()), found
    assert any(run["statuses"] != [0] for run in found.values())
