"""Offline W&B runs that the tests of this folder share."""

from pathlib import Path

import pytest

from tests.cli.forked import run_warm_command


@pytest.fixture(scope="session")
def offline_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two models, with all that runs log, read-only."""
    cwd = tmp_path_factory.mktemp("offline_sweep")
    done = run_warm_command(
        "train.py",
        *("-m", "experiment=smoke", "logger=wandb", "model=gru,rnn"),
        *("model.hidden_size=4", "data.num_train=60", "data.num_test=20"),
        *("trainer.gradient_flow=epoch", "sweep=first"),
        cwd=cwd,
        env={"WANDB_MODE": "offline"},
    )
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "first"
