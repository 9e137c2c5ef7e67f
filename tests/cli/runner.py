"""Runs a command as a user would: a process of its own, in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def run_command(
    script: str, *arguments: str, cwd: Path, env: dict[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run `python <script> <arguments>` in `cwd` without an IMDB, a W&B account or a terminal."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / script), *arguments],
        cwd=cwd,
        env=command_environment(cwd) | (env or {}),
        input=stdin,
        capture_output=True,
        timeout=300,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def command_environment(cwd: Path) -> dict[str, str]:
    """This process's environment, without an IMDB and a W&B account."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"IMDB_ROOT", "HYDRA_FULL_ERROR"} and not name.startswith("WANDB_")
    }
    # A home of its own: no W&B account of the person who runs the tests.
    return environment | {"HOME": str(cwd), "NETRC": str(cwd / "netrc"), "COLUMNS": "100"}


def inspect_wandb(run: Path, *arguments: str) -> str:
    """What W&B itself reads in an offline run's folder, as JSON."""
    from rnn_lab.tracking.logged_runs import inspect_command  # no part of a command's own imports

    (file,) = run.glob("run-*.wandb")
    read = subprocess.run(inspect_command(file, *arguments), capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    return read.stdout
