"""A run that the user stops, and resumes by the command that it prints last."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.forked import Started, run_warm_command
from tests.cli.runner import PROJECT, inspect_wandb

SMALL = (
    *("experiment=smoke", "logger=wandb", "model.dropout=0.5"),
    *("data.num_train=200", "data.num_test=40", "trainer.max_epochs=6", "plots=false"),
)


def stop(cwd: Path, signum: int, trainer: str) -> tuple[int, str]:
    """Start a run, send it the signal when it trains; its exit status and last line."""
    line = (*SMALL, trainer, "hydra.run.dir=run")
    started = Started(
        "train.py", *line, cwd=cwd, out=cwd / "out", err=cwd / "err", warm_children=True
    )
    while not (cwd / "run/checkpoints/last.ckpt").exists():
        assert started.poll() is None, (cwd / "err").read_text()
        time.sleep(0.02)
    started.send_signal(signum)
    status = started.wait()
    said = (cwd / "err").read_text()
    (last,) = [line for line in said.splitlines() if line.startswith("interrupted")]
    return status, last


def offline_run(cwd: Path) -> tuple[dict, list[dict]]:
    """What W&B reads in the run's one offline run: its summary, and all records."""
    (offline,) = (cwd / "run/wandb").glob("offline-run-*")
    records = [json.loads(record) for record in inspect_wandb(offline).splitlines()]
    return json.loads(inspect_wandb(offline, "--summary"))["summary"], records


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "status", "trainer", "steps"),
    [
        (signal.SIGINT, 130, "trainer=cpu", 6),
        (signal.SIGTERM, 143, "trainer=ddp_cpu", 3),
        (signal.SIGUSR1, 138, "trainer=cpu", 6),
    ],
    ids=["ctrl_c", "sigterm_of_two_processes", "preemption"],
)
def test_stopped_run_resumes_by_the_command_it_prints(tmp_path, signum, status, trainer, steps):
    """In a folder whose name needs quotes for Hydra and for the shell."""
    tmp_path /= "My Project (v2), it's a=b #[ü] $HOME"
    tmp_path.mkdir()
    ended, line = stop(tmp_path, signum, trainer)
    assert ended == status
    summary, records = offline_run(tmp_path)
    assert summary["stopped"] == signal.Signals(signum).name
    assert [r["exit"]["exit_code"] for r in records if r["type"] == "exit"] == [status]
    pasted = ["bash", "-c", f"printf '%s\\0' {line.partition('resume with: ')[2]}"]
    words = subprocess.run(pasted, capture_output=True, check=True).stdout.decode()
    _, script, *command = words.removesuffix("\0").split("\0")
    assert Path(script).samefile(PROJECT / "train.py")

    other = (*command, "model.hidden_size=32")
    refused = run_warm_command("train.py", *other, cwd=tmp_path, warm_children=True)
    assert refused.returncode == 1
    assert "model.hidden_size=16 (saved), 32 (requested)" in refused.stderr.splitlines()[-1]

    done = run_warm_command("train.py", *command, cwd=tmp_path, warm_children=True)
    assert done.returncode == 0, done.stderr
    assert "resumes in epoch" in done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["epochs"] == 6
    summary, records = offline_run(tmp_path)
    assert "stopped" not in summary
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    trained = [metrics["trainer/global_step"] for metrics in history if "grad_norm" in metrics]
    assert trained == list(range(6 * steps))
