"""What stands in a job's folder, and what that says of the job."""

import json
import math
import signal
import subprocess
import sys

import pytest
from rnn_lab.sweeps.job_dir import JobDir, job_dirs

from tests.cli.runner import PROJECT

HOLD = """
import sys, time
from pathlib import Path
from rnn_lab.sweeps.job_dir import JobDir
with JobDir(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def job(tmp_path) -> JobDir:
    (tmp_path / "gru_seed1_0123abcd").mkdir()
    return JobDir(tmp_path / "gru_seed1_0123abcd")


def write(job: JobDir, file: str, content: object) -> None:
    (job.path / f"{file}.json").write_text(json.dumps(content))


def begin(job: JobDir, fingerprint: str = "0123abcd") -> None:
    job.begin(fingerprint=fingerprint, overrides=["seed=1"], trial=None)


def test_what_is_there_says_what_became_of_it(job):
    begin(job)
    assert job.status == "unfinished"
    write(job, "failure", {"error": "no"})
    assert job.status == "failed"
    write(job, "pruned", {"value": 0.5})
    assert job.status == "pruned" and job.value("val/accuracy") == 0.5
    write(job, "result", {"val/accuracy": 0.75, "val/auroc": None})
    assert job.status == "finished" and job.value("val/accuracy") == 0.75
    assert math.isnan(job.value("val/auroc"))


def test_a_job_that_begins_again_has_not_failed(job):
    write(job, "failure", {"error": "no"})
    begin(job)
    assert job.status == "unfinished" and not job.read("failure")


def test_a_process_that_is_killed_leaves_no_lock(job):
    command = [sys.executable, "-c", HOLD, str(job.path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert job.status == "running"
        process.send_signal(signal.SIGKILL)
    assert job.status == "unfinished"
    with job.held() as waited:
        assert not waited


def test_a_half_done_attempt_at_half_the_batch_is_gone_on_with(job):
    begin(job)
    job.note(batch_halvings=2)
    begin(job)
    assert job.read("job")["batch_halvings"] == 0  # it left nothing to go on from
    job.note(batch_halvings=2)
    (job.path / "checkpoints").mkdir()
    (job.path / "checkpoints" / "last.ckpt").touch()
    begin(job)
    assert job.read("job")["batch_halvings"] == 2
    begin(job, "another")
    assert job.read("job")["batch_halvings"] == 0


def test_every_folder_that_a_job_was_given_is_found(tmp_path):
    for name, file in (("a", "job.json"), ("b/c", "result.json"), ("d", "config/overrides.yaml")):
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).touch()
    (tmp_path / "no_job").mkdir()
    assert [job.path.relative_to(tmp_path).as_posix() for job in job_dirs(tmp_path)] == [
        *("a", "b/c", "d"),
    ]
