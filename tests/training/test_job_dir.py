"""The folder of a run: its name, its records, the status that they give it, and its lock."""

import json
import math
import signal
import subprocess
import sys

import pytest

import rnn_lab.cli  # noqa: F401  it registers ${job_dir:}
from rnn_lab.runs.jobs import find_job_dirs, job_status
from rnn_lab.training.job_dir import JobDir, job_dir_name, job_fingerprint, resolve_options
from rnn_lab.training.spec import config_fingerprint
from tests.cli.runner import PROJECT
from tests.io.test_locks import another
from tests.test_conf import composed, composed_with_hydra

LOCK = """
import sys, time
from pathlib import Path
from rnn_lab.training.job_dir import JobDir
with JobDir(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def job(tmp_path) -> JobDir:
    (tmp_path / "gru_seed1_0123abcd").mkdir()
    return JobDir(tmp_path / "gru_seed1_0123abcd")


def write(job: JobDir, file: str, content: object) -> None:
    (job.path / f"{file}.json").write_text(json.dumps(content))


def start(job: JobDir, fingerprint: str = "0123abcd") -> None:
    job.start(fingerprint=fingerprint, overrides=["seed=1"], trial=None)


def test_status_and_value_follow_from_the_files(job):
    start(job)
    assert job.status == "unfinished"
    write(job, "failure", {"error": "no"})
    assert job.status == "failed"
    write(job, "pruned", {"value": 0.5})
    assert job.status == "pruned" and job.value("val/accuracy") == 0.5
    write(job, "result", {"val/accuracy": 0.75, "val/auroc": None})
    assert job.status == "finished" and job.value("val/accuracy") == 0.75
    assert math.isnan(job.value("val/auroc"))


def test_value_of_monitor_auto_is_the_metric_that_the_run_chose(job):
    assert job.monitored_metric("auto") == "val/accuracy"  # of a run that has not
    result = {"val/accuracy": 0.75, "val/f1": 0.5, "monitored_metric": "val/f1"}
    write(job, "result", result)
    assert (job.monitored_metric("auto"), job.value("auto")) == ("val/f1", 0.5)
    assert (job.monitored_metric("val/accuracy"), job.value("val/accuracy")) == (
        "val/accuracy",
        0.75,
    )


def test_restarted_job_has_not_failed(job):
    write(job, "failure", {"error": "no"})
    start(job)
    assert job.status == "unfinished" and not job.read("failure")


def test_killed_process_leaves_no_lock(job):
    command = [sys.executable, "-c", LOCK, str(job.path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        assert job.status == "running"
        process.send_signal(signal.SIGKILL)
    assert job.status == "unfinished"
    with job.locked() as waited:
        assert not waited


def test_unfinished_attempt_keeps_its_batch_halvings(job):
    start(job)
    job.update(batch_halvings=2)
    start(job)
    assert job.read("job")["batch_halvings"] == 0  # there is no checkpoint to resume from
    job.update(batch_halvings=2)
    (job.path / "checkpoints").mkdir()
    (job.path / "checkpoints" / "last.ckpt").touch()
    start(job)
    assert job.read("job")["batch_halvings"] == 2
    start(job, "another")
    assert job.read("job")["batch_halvings"] == 0


def test_every_job_folder_is_found(tmp_path):
    for name, file in (("a", "job.json"), ("b/c", "result.json"), ("d", "checkpoints/x")):
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).touch()
    (tmp_path / "no_job").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in find_job_dirs(tmp_path)] == [
        *("a", "b/c", "d"),
    ]


# Jobs one after the other in the sweep argv[1], with the files that Hydra and a run write, in turn.
JOBS = """
import itertools, shutil, sys
from pathlib import Path
from rnn_lab.training.job_dir import JobDir
for number in itertools.count():
    job = JobDir(Path(sys.argv[1]) / f"gru_seed{number}")
    (job.path / ".hydra").mkdir(parents=True)
    (job.path / ".hydra" / "config.yaml").write_text("seed: 1")
    (job.path / "train.log").touch()
    with job.locked():
        job.start(fingerprint="0", overrides=[], trial=None)
        stage = job.path / ".finishing"
        stage.mkdir()
        (job.path / "metrics.csv").touch()
        (stage / "metrics.csv").touch()
        (stage / "result.json").write_text("{}")
        (stage / "result.json").replace(job.path / "result.json")
        shutil.rmtree(stage)
    if number == 20:
        print("held", flush=True)
"""


def test_jobs_of_another_process_are_never_unfinished(tmp_path):
    """Another terminal adds jobs to the sweep while this one reports it."""
    found = set()
    with another(JOBS, tmp_path):
        for _ in range(100):
            jobs = find_job_dirs(tmp_path)
            found |= {job_status(path) for path in jobs if path.exists()}
            assert all(path.parent == tmp_path for path in jobs)
    assert "finished" in found and found <= {"finished", "running"}


def test_a_job_that_died_before_it_began_is_listed(tmp_path):
    job = JobDir(tmp_path / "gru_seed1")
    (job.path / ".hydra").mkdir(parents=True)
    assert find_job_dirs(tmp_path) == []  # another process may be creating it
    job.record_unstarted(["seed=1"])
    assert find_job_dirs(tmp_path) == [job.path] and job.status == "unfinished"
    start(job)
    job.record_unstarted(["seed=2"])
    assert job.read("job")["overrides"] == ["seed=1"]


BASE = ("data=demo", "model=gru")


def test_folder_is_named_by_model_seed_and_fingerprint():
    config = composed_with_hydra(*BASE, "seed=3")
    fingerprint = config_fingerprint(composed(*BASE, "seed=3"))
    assert job_dir_name(config) == config.hydra.sweep.subdir == f"gru_seed3_{fingerprint[:8]}"


@pytest.mark.parametrize("override", ["model.hidden_size=-1", "seed=${nowhere}", "seed=???"])
def test_impossible_config_has_a_folder_too(override):
    """Its job fails there with the reason; the resolver must not fail."""
    config = composed_with_hydra(*BASE, override)
    assert config.hydra.sweep.subdir == job_dir_name(config)
    possible = config_fingerprint(composed(*BASE))
    assert job_fingerprint(resolve_options(config)) != possible
