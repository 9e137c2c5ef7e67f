"""Sweeps through a real Slurm, on whatever node it has."""

import csv
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.cli.forked import Started
from tests.cli.runner import PROJECT, run_command

SMALL = (
    *("experiment=smoke", "data.num_train=40", "data.num_test=21", "sweep=mine"),
    *("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1"),
)
PATIENCE = 240  # seconds: a requeued job begins a while later


def why_not() -> str | None:
    if shutil.which("sbatch") is None:
        return "there is no sbatch on this machine"
    if subprocess.run(["sinfo", "-h"], capture_output=True).returncode != 0:
        return "there is an sbatch on this machine, but no Slurm answers it"
    return None


pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


class Sweep:
    """A sweep in the background, and what it has printed so far."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        self.cwd, self.log = cwd, cwd / "log"
        with self.log.open("w") as log:
            command = [sys.executable, str(PROJECT / "train.py"), "-m", *SMALL, *arguments]
            self.process = subprocess.Popen(
                command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def wait_for(self, what, said: str):
        """What `what` returns once it is true."""
        until = time.monotonic() + PATIENCE
        while not (found := what()):
            assert time.monotonic() < until, f"{said}\n{self.printed}"
            assert self.process.poll() is None or what(), f"{said}\n{self.printed}"
            time.sleep(0.1)
        return found

    def job_ids(self, number: int) -> list[str]:
        """Slurm's ids of the jobs, in order, once it has all of them."""
        pattern = re.compile(r"^slurm job (\S+):", re.MULTILINE)

        def all_of_them() -> list[str] | None:
            ids = pattern.findall(self.printed)
            return ids if len(ids) == number else None

        return self.wait_for(all_of_them, "no jobs in Slurm")

    def folder(self, number: int) -> Path:
        """The folder of the sweep's job with that value of log_every_n_steps."""
        for overrides in self.cwd.glob("runs/mine/*/.hydra/overrides.yaml"):
            if f"trainer.log_every_n_steps={number}\n" in overrides.read_text():
                return overrides.parents[1]
        return self.cwd / "nowhere"


def epochs(folder: Path) -> list[int]:
    """The epoch of every validation in metrics.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file) if row["val/loss"]]


def test_cancelled_and_preempted_jobs_end_as_an_undisturbed_one(tmp_path):
    """The three jobs differ in nothing that matters, so their weights are to be the same."""
    line = ("trainer=cpu", "trainer.max_epochs=40", "trainer.log_every_n_steps=1,2,3")
    sweep = Sweep(tmp_path, *line)
    cancelled, preempted, _ = sweep.job_ids(3)
    for number, command in ((1, ["scancel", cancelled]), (2, ["scancel", "-s", "USR2", preempted])):
        last = lambda n=number: (sweep.folder(n) / "checkpoints" / "last.ckpt").exists()  # noqa: E731
        sweep.wait_for(last, f"job {number} has no checkpoint")
        subprocess.run(command, check=True)

    # Slurm lets a requeued job wait for two minutes.
    state = ["squeue", "--noheader", "--format=%T", f"--jobs={preempted}"]

    def is_pending() -> bool:
        return "PENDING" in subprocess.run(state, capture_output=True, text=True).stdout

    sweep.wait_for(is_pending, "not requeued")
    subprocess.run(["scontrol", "update", f"JobId={preempted}", "StartTime=now"], check=True)

    assert sweep.process.wait(PATIENCE) == 1, sweep.printed
    first, second, third = (sweep.folder(number) for number in (1, 2, 3))
    assert (
        f"error: {first.name}: its process died: Slurm job {cancelled} is CANCELLED"
        in sweep.printed
    )
    assert "error: 1 of 3 jobs are not done:" in sweep.printed
    assert f"error:   {first.name} unfinished" in sweep.printed
    assert not (first / "result.json").exists()
    for folder in (second, third):
        assert (folder / "result.json").exists()
    (log,) = tmp_path.glob(f"runs/mine/.submitit/*/{preempted}/*_0_log.err")
    assert len(re.findall("resumes in epoch", log.read_text())) == 1
    job = subprocess.run(["scontrol", "show", "job", preempted], capture_output=True, text=True)
    assert "Restarts=1 " in job.stdout  # by submitit, and by nobody else

    again = Sweep(tmp_path, *line)
    assert again.process.wait(PATIENCE) == 0, again.printed
    assert len(re.findall("^slurm job ", again.printed, re.MULTILINE)) == 1
    assert len(re.findall("already finished", again.printed)) == 2
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (first, second, third)
    ]
    for name, tensor in weights[2].items():
        assert torch.equal(weights[0][name], tensor) and torch.equal(weights[1][name], tensor), name
    for folder in (first, second, third):
        assert epochs(folder) == list(range(40))


def test_two_tasks_of_one_job_train_together(tmp_path):
    line = ("trainer=ddp_cpu", "logger=wandb", "hydra.launcher.tasks_per_node=2")
    done = run_command("train.py", "-m", *SMALL, *line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/mine/.submitit/*/*/*_1_log.out"))) == 1  # a second task
    (folder,) = (path.parent for path in tmp_path.glob("runs/mine/*/result.json"))
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["name"] for row in rows}) == len(rows) == 21
    result = json.loads((folder / "result.json").read_text())
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert result["test/accuracy"] == pytest.approx(right / 21, abs=1e-6)
    loss = sum(float(row["loss"]) for row in rows) / 21
    assert result["test/loss"] == pytest.approx(loss, abs=1e-6)
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1


def test_what_slurm_refuses_is_one_line(tmp_path):
    done = run_command(
        "train.py", "-m", *SMALL, "trainer=cpu", "hydra.launcher.partition=nowhere", cwd=tmp_path
    )
    assert done.returncode == 1
    assert "error: hydra/launcher=submitit_slurm: sbatch: error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_shards_of_predict_are_one_array(tmp_path, mood_run, mood_reviews):
    """A cancelled shard is reported, and is the only one that the same command labels."""
    options = (f"run={mood_run}", f"input={mood_reviews}", "output=out", "shard=0/3,1/3,2/3")
    launcher = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1")
    one_by_one = ("hydra.launcher.array_parallelism=1", "hydra.launcher.timeout_min=10")
    command = ("predict.py", "-m", *options, *launcher, *one_by_one)
    (tmp_path / "log").touch()
    process = Started(*command, cwd=tmp_path, out=tmp_path / "log")
    until = time.monotonic() + PATIENCE
    while not (found := re.search(r"^slurm job (\S+_2):", process.printed(), re.MULTILINE)):
        assert time.monotonic() < until and process.poll() is None, process.printed()
        time.sleep(0.1)
    subprocess.run(["scancel", found[1]], check=True)
    assert process.wait(PATIENCE) == 1, process.printed()
    said = process.printed()
    assert f"error: shard_2_of_3: its process died: Slurm job {found[1]} is " in said
    assert "error: 1 of 3 files are not labelled:" in said
    assert f"error:   {mood_reviews} (2/3): its shard did not label it" in said
    outputs = [tmp_path / f"out/moods.csv-0000{index}-of-00003.jsonl" for index in range(3)]
    before = [path.stat().st_ino for path in outputs[:2]]
    assert not outputs[2].exists()

    done = run_command(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.stat().st_ino for path in outputs[:2]] == before
    whole = run_command("predict.py", *options[:2], "output=whole.jsonl", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    rows = "".join(path.read_text() for path in outputs)
    assert rows == (tmp_path / "whole.jsonl").read_text()
