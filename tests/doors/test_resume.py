"""A run that the user stops, and goes on with by the line that it prints last."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.doors.runner import PROJECT, door_environment, inspect_wandb, open_door

SMALL = (
    *("experiment=smoke", "logger=wandb", "trainer=cpu", "model.dropout=0.5"),
    *("data.num_train=200", "data.num_test=40", "trainer.max_epochs=30"),
)


def stop(cwd: Path, signum: int) -> tuple[int, str]:
    """Start a run, send it the signal when it trains; its exit status and last line."""
    started = subprocess.Popen(
        [sys.executable, str(PROJECT / "train.py"), *SMALL, "hydra.run.dir=run"],
        cwd=cwd,
        env=door_environment(cwd),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (cwd / "run/checkpoints/last.ckpt").exists():
        assert started.poll() is None, started.communicate()[1]
        time.sleep(0.02)
    started.send_signal(signum)
    _, said = started.communicate(timeout=120)
    (line,) = [line for line in said.splitlines() if line.startswith("interrupted")]
    return started.returncode, line


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_goes_on_by_the_line_it_prints(tmp_path, signum, status):
    ended, line = stop(tmp_path, signum)
    assert ended == status
    command = shlex.split(line.partition("goes on with: ")[2])
    assert command[:2] == ["python", "train.py"]

    refused = open_door("train.py", *command[2:], "model.hidden_size=32", cwd=tmp_path)
    assert refused.returncode == 1
    assert "model.hidden_size=16 there, 32 here" in refused.stderr.splitlines()[-1]

    done = open_door("train.py", *command[2:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on in epoch" in done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["epochs"] == 30
    (offline,) = (tmp_path / "run/wandb").glob("offline-run-*")
    records = [json.loads(record) for record in inspect_wandb(offline).splitlines()]
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    steps = [figures["trainer/global_step"] for figures in history if "grad_norm" in figures]
    assert steps == list(range(30 * 6))
