"""The files of a job's folder, and the status they give it."""

import json
import math
import signal
import subprocess
import sys

import pytest

from rnn_lab.sweeps.job import JobDir, job_dirs
from tests.cli.runner import PROJECT

LOCK = """
import sys, time
from pathlib import Path
from rnn_lab.sweeps.job import JobDir
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
    for name, file in (("a", "job.json"), ("b/c", "result.json"), ("d", ".hydra/overrides.yaml")):
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).touch()
    (tmp_path / "no_job").mkdir()
    assert [job.path.relative_to(tmp_path).as_posix() for job in job_dirs(tmp_path)] == [
        *("a", "b/c", "d"),
    ]
