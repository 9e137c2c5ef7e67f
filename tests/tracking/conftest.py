"""Offline W&B runs that the tests of this folder share."""

from pathlib import Path

import pytest

from tests.cli.forked import run_warm_command
from tests.tracking.wandb_page import commands_to_run


@pytest.fixture(scope="session")
def offline_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sweep that docs/wandb.md runs: two models, and all that runs log."""
    cwd = tmp_path_factory.mktemp("offline_sweep")
    train, _ = commands_to_run()
    done = run_warm_command("rnn_lab/__main__.py", *train, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "first"
