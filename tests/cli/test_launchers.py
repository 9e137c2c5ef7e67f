"""Several jobs at once, and several processes for one job, on this machine."""

import csv
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.cli.forked import Started, run_warm_command

SMALL = ("experiment=smoke", "data.num_train=43", "data.num_test=21", "sweep=mine", "plots=false")
LONG = ("trainer.max_epochs=12", "test=false")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finished(cwd: Path) -> dict[int, Path]:
    """The folder of each finished job, by its seed."""
    folders = (path.parent for path in cwd.glob("runs/mine/*/result.json"))
    return {read(folder / "result.json")["seed"]: folder for folder in folders}


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def kill_when_training(job: str, sweep: Started, cwd: Path) -> None:
    """Kill the process that is at the first job of that name, when it has a checkpoint."""
    while not (found := list(cwd.glob(f"runs/mine/{job}_*/checkpoints/last.ckpt"))):
        assert sweep.poll() is None, sweep.printed()
        time.sleep(0.02)
    os.kill(read(found[0].parents[1] / "job.json")["pid"], signal.SIGKILL)


def start(*arguments: str, cwd: Path, warm_children: bool = False) -> Started:
    line = ("-m", *SMALL, "trainer=cpu", *arguments)
    return Started("train.py", *line, cwd=cwd, out=cwd / "said", warm_children=warm_children)


def test_a_time_limit_within_the_signal_delay_is_refused(tmp_path):
    """Slurm would signal the job as it starts, each time it is put back into the queue."""
    options = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=2")
    done = run_warm_command("train.py", "-m", *SMALL, *options, cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: hydra.launcher.signal_delay_s=120: a job would be signalled")
    assert "hydra.launcher.timeout_min=2;" in line


def test_where_there_is_no_slurm_it_is_one_line(tmp_path):
    launcher = "hydra/launcher=submitit_slurm"
    done = run_warm_command(
        "train.py", "-m", *SMALL, launcher, cwd=tmp_path, env={"PATH": str(tmp_path)}
    )
    assert done.returncode == 1
    assert "error: hydra/launcher=submitit_slurm: there is no srun on this machine" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_joblib_workers_share_the_cores_and_a_killed_worker_ends_no_job(tmp_path, monkeypatch):
    """Every other worker dies with it, and all their jobs resume where they were."""
    monkeypatch.delenv("OMP_NUM_THREADS")  # of the tests: it would be every worker's
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *LONG)
    sweep = start("seed=1,2", *joblib, cwd=tmp_path, warm_children=True)
    kill_when_training("gru_seed1", sweep, tmp_path)
    assert sweep.wait() == 0, sweep.printed()
    said = sweep.printed()
    assert "Traceback" not in said
    folders = finished(tmp_path)
    assert set(folders) == {1, 2}
    assert re.search(r"resumes in epoch \d+", said)
    for folder in folders.values():
        assert f"{folder.name}: epoch 11 (last 11)" in said
        assert read(folder / "result.json")["timing"]["threads"] == max(1, CORES // 2)


@pytest.mark.slow
def test_killed_submitit_process_is_reported_and_other_jobs_continue(tmp_path):
    local = ("hydra/launcher=submitit_local", "hydra.launcher.n_jobs=1", *LONG)
    sweep = start("seed=1,2", *local, cwd=tmp_path, warm_children=True)
    kill_when_training("gru_seed1", sweep, tmp_path)
    assert sweep.wait() == 1, sweep.printed()
    said = sweep.printed()
    assert "Traceback" not in said
    (job,) = tmp_path.glob("runs/mine/gru_seed1_*")
    died = said.index(f"error: {job.name}: its process died: process ")
    assert died < said.index("seed=2", died + len(job.name) + 200)  # the moment it happens
    assert set(finished(tmp_path)) == {2}
    assert f"error:   {job.name} unfinished" in said
    line = ("-m", *SMALL, "trainer=cpu", "seed=1,2", *local)
    done = run_warm_command("train.py", *line, cwd=tmp_path, warm_children=True)
    assert done.returncode == 0, done.stderr
    assert set(finished(tmp_path)) == {1, 2}
    assert len(re.findall("^local job", done.stdout, re.MULTILINE)) == 1


@pytest.mark.slow
def test_plugins_are_loaded_in_every_process_of_a_run(tmp_path):
    (tmp_path / "certainty.py").write_text(
        "from rnn_lab.models import register_loss\n\n\n"
        '@register_loss("certainty", needs_labels=False)\n'
        "def certainty(texts, passes, config):\n"
        "    return 1 - texts.task.probabilities(passes[0]).max(dim=1).values\n"
    )
    options = ("trainer=ddp_cpu", "plugins=[certainty]", "+loss.certainty=1", "logger=csv")
    options += ("sweep=null",)
    done = run_warm_command(
        *("train.py", *SMALL, *options, "hydra.run.dir=run"), cwd=tmp_path, warm_children=True
    )
    assert done.returncode == 0, done.stderr
    assert "train/loss_certainty" in (tmp_path / "run/metrics.csv").read_text()


@pytest.mark.slow
def test_baselines_of_any_number_of_labels_are_of_one_process(tmp_path):
    rows = [f"{word} film,{labels}" for word, labels in (("good", "a;b"), ("bad", "b"), ("so", ""))]
    (tmp_path / "moods.csv").write_text("\n".join(["text,label", *rows * 30]))
    moods = ("data=files", "data.train_path=moods.csv", "data.label_separator=';'", "plots=false")
    moods += ("model.hidden_size=4", "model.embedding_dim=4", "trainer.max_epochs=1", "logger=none")
    found = []
    for trainer in ("cpu", "ddp_cpu"):
        line = (*moods, f"trainer={trainer}", f"hydra.run.dir={trainer}")
        done = run_warm_command("train.py", *line, cwd=tmp_path, warm_children=True)
        assert done.returncode == 0, done.stderr
        baseline = json.loads((tmp_path / trainer / "result.json").read_text())["baseline"]
        baseline["tfidf"].pop("wall_time_s")
        found.append(baseline)
    assert found[0] == found[1]


@pytest.mark.slow
def test_sweep_of_ddp_jobs_tests_every_text_once_and_continues_past_a_failed_job(tmp_path):
    """Two jobs, each in two processes; the second has one review to validate on."""
    jobs = ("trainer=ddp_cpu", "data.eval_batch_size=8", "logger=wandb")
    jobs += ("data.val_split=random", "data.val_fraction=0.1,0.02")
    done = run_warm_command("train.py", "-m", *SMALL, *jobs, cwd=tmp_path, warm_children=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (failure,) = tmp_path.glob("runs/mine/*/failure.json")
    said = "too few texts for 2 devices: 1"
    assert done.stderr.count(f"error: {failure.parent.name} failed: {said}") == 1
    assert read(failure)["type"] == "DataError"
    folder = finished(tmp_path)[1]
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1  # the first process's
    assert not (failure.parent / "wandb").exists()  # it failed before anything was logged

    with (folder / "predictions.csv").open(newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert len(set(names)) == len(names) == 21
    shutil.copytree(folder, tmp_path / "run")
    done = run_warm_command("eval.py", "run=run", "device=cpu", "output_dir=tested", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    two, one = read(folder / "result.json"), read(tmp_path / "tested" / "result.json")
    compared = [name for name in one if name.startswith("test/")]
    assert {"test/accuracy", "test/f1", "test/auroc", "test/loss"} < set(compared)
    for name in compared:
        assert two[name] == pytest.approx(one[name], abs=1e-6), name
