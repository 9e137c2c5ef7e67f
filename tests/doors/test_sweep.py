"""Sweeps as a user starts them, stops them and starts them again."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import hydra
import pytest

from src.sweeps.folder import JobFolder
from tests.doors.runner import PROJECT, open_door
from tests.test_conf import CONF

SMALL = (
    *("experiment=smoke", "data.num_train=40", "data.num_test=20", "trainer=cpu"),
    *("trainer.limit_val_batches=1", "sweep=mine"),
)
TOO_LARGE = "1000000"  # units: their recurrent weights alone are 12 terabytes


def start_sweep(*arguments: str, cwd: Path) -> subprocess.Popen:
    """Start `train.py -m` in the background; its stdout and stderr are one stream."""
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "train.py"), "-m", *SMALL, *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def folder_of(cwd: Path, *overrides: str) -> JobFolder:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", [*SMALL, *overrides], return_hydra_config=True)
    return JobFolder(cwd / "runs" / "mine" / config.hydra.sweep.subdir)


def results(cwd: Path) -> dict[str, tuple[bytes, int]]:
    """Every result.json of the sweep with the moment it was written."""
    paths = cwd.glob("runs/mine/*/result.json")
    return {path.parent.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def figures(cwd: Path) -> dict[str, dict]:
    """What two equal sweeps agree in: all of every result but its timing."""
    read = {name: json.loads(content) for name, (content, _) in results(cwd).items()}
    return {
        name: {key: value for key, value in result.items() if key != "timing"}
        for name, result in read.items()
    }


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> tuple[Path, list[str]]:
    """Two processes that were given the same sweep of two jobs at once, and what they said."""
    cwd = tmp_path_factory.mktemp("sweep")
    both = [start_sweep("seed=1,2", cwd=cwd) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return cwd, said


def test_two_processes_do_no_job_twice(twice):
    cwd, said = twice
    names = sorted(results(cwd))
    assert [name[:10] for name in names] == ["gru_seed1_", "gru_seed2_"]
    trained = re.findall(r"^Run folder: .*/(\S+)$", "".join(said), re.MULTILINE)
    answered = re.findall(r"^(\S+): finished before, val/accuracy 0\.\d+$", "".join(said), re.M)
    assert sorted(trained) == sorted(answered) == names
    assert "another process is at this job" in "".join(said)


def test_the_same_line_again_only_answers(twice):
    cwd, _ = twice
    before = results(cwd)
    done = open_door("train.py", "-m", *SMALL, "seed=1,2", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert results(cwd) == before
    assert len(re.findall("finished before", done.stdout)) == 2
    for name, (content, _) in before.items():
        job, result = json.loads((cwd / "runs/mine" / name / "job.json").read_text()), json.loads(content)
        assert name.endswith(job["fingerprint"][:8])
        assert job["fingerprint"] == result["fingerprint"]
        assert result["monitor"] == "val/accuracy" and result["halvings"] == 0


def test_a_growing_sweep_runs_what_is_new_and_tells_what_fails(twice):
    cwd, _ = twice
    before = results(cwd)
    raises = folder_of(cwd, "seed=3")
    (raises.path / "metrics.csv").mkdir(parents=True)  # a file has to go there
    line = ("seed=3,1,4", f"model.hidden_size=16,{TOO_LARGE}", "retries=1")
    process = start_sweep(*line, cwd=cwd)
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in said

    after = results(cwd)
    assert before.items() <= after.items()
    assert set(after) - set(before) == {folder_of(cwd, "seed=4").name}

    # The moment it happens: before the next job begins.
    failed = f"error: {raises.name} failed: IsADirectoryError"
    assert said.index(f"{raises.name}: IsADirectoryError") < said.index(failed)  # the retry
    assert said.index(failed) < said.index("#1 :")
    assert "seed=3 model.hidden_size=16" in said
    log = raises.path / "train.log"
    assert f"log: {log}" in said and "Traceback" in log.read_text()
    failure = raises.read("failure")
    assert failure["type"] == "IsADirectoryError" and failure["attempts"] == 2
    assert failure["log"] == str(log) and "seed=3" in failure["overrides"]

    large = [folder_of(cwd, f"seed={n}", f"model.hidden_size={TOO_LARGE}") for n in (1, 3, 4)]
    for job in large:
        assert job.status == "failed"
        assert "out of memory, even at data.batch_size=1 " in job.read("failure")["error"]
        assert f"{job.name}: out of memory at data.batch_size=32 " in said
    named = said[said.index("of 7 jobs are not done") :]
    assert "4 of 7" in said and all(job.name in named for job in (raises, *large))

    (raises.path / "metrics.csv").rmdir()
    done = open_door("train.py", "-m", *SMALL, "seed=3", cwd=cwd)
    assert raises.status == "finished" and not raises.read("failure")
    assert done.returncode == 1 and "3 of 7 jobs are not done" in done.stderr
