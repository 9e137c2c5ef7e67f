"""Sweeps as a user starts them, stops them and starts them again."""

import csv
import json
import random
import re
import signal
import sys
import time
from pathlib import Path

import hydra
import pytest

import rnn_lab.cli  # noqa: F401  it registers ${job_dir:}
from rnn_lab.training.job_dir import JobDir, job_fingerprint, resolve_options
from tests.cli.forked import Started, run_warm_command
from tests.test_conf import CONF

SMALL = (
    *("experiment=smoke", "data.num_train=40", "data.num_test=20", "trainer=cpu"),
    *("data.batch_size=4", "data.eval_batch_size=4", "sweep=mine", "plots=false"),
)
TOO_LARGE = "1000000"  # units: their recurrent weights alone are 12 terabytes


def start_sweep(*arguments: str, cwd: Path) -> Started:
    """Start `train.py -m` in the background; its stdout and stderr are one file."""
    out = cwd / f"said{len(list(cwd.glob('said*')))}"
    out.touch()
    wide = {"COLUMNS": "200"}
    return Started("train.py", "-m", *SMALL, *arguments, cwd=cwd, out=out, env=wide)


def folder_of(cwd: Path, *overrides: str) -> JobDir:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("train", [*SMALL, *overrides], return_hydra_config=True)
    return JobDir(cwd / "runs" / "mine" / config.hydra.sweep.subdir)


def results(cwd: Path) -> dict[str, tuple[bytes, int]]:
    """Every result.json of the sweep with the moment it was written."""
    paths = cwd.glob("runs/mine/*/result.json")
    return {path.parent.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def untimed_results(cwd: Path) -> dict[str, dict]:
    """What two equal sweeps agree in: all of every result but its timing."""
    read = {name: json.loads(content) for name, (content, _) in results(cwd).items()}
    return {
        name: {key: value for key, value in result.items() if key != "timing"}
        for name, result in read.items()
    }


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> tuple[Path, list[str]]:
    """Two processes that were given the same sweep of two jobs at once, and what they printed."""
    cwd = tmp_path_factory.mktemp("sweep")
    both = [start_sweep("seed=1,2", cwd=cwd)]
    while not list(cwd.glob("runs/mine/*/job.json")):  # it trains the first job
        assert both[0].poll() is None
        time.sleep(0.01)
    both[0].send_signal(signal.SIGSTOP)
    both.append(start_sweep("seed=1,2", cwd=cwd))
    while "locked by process" not in both[1].printed():
        assert both[1].poll() is None
        time.sleep(0.05)
    both[0].send_signal(signal.SIGCONT)
    statuses = [process.wait() for process in both]
    said = [process.printed() for process in both]
    assert statuses == [0, 0], said
    return cwd, said


def test_two_processes_do_no_job_twice(twice):
    cwd, said = twice
    names = sorted(results(cwd))
    assert [name[:10] for name in names] == ["gru_seed1_", "gru_seed2_"]
    trained = re.findall(r"^Run folder: .*/(\S+)$", "".join(said), re.MULTILINE)
    answered = re.findall(r"^(\S+): already finished, val/accuracy 0\.\d+$", "".join(said), re.M)
    assert sorted(trained) == sorted(answered) == names
    assert re.search(r"locked by process \d+ on \S+; waiting for it", "".join(said))


def test_the_same_line_again_only_answers(twice):
    cwd, _ = twice
    before = results(cwd)
    done = run_warm_command("train.py", "-m", *SMALL, "seed=1,2", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert results(cwd) == before
    assert len(re.findall("already finished", done.stdout)) == 2
    for name, (content, _) in before.items():
        job, result = (
            json.loads((cwd / "runs/mine" / name / "job.json").read_text()),
            json.loads(content),
        )
        assert name.endswith(job["fingerprint"][:8])
        assert job["fingerprint"] == result["config_fingerprint"]
        assert (result["monitored_metric"], result["monitored_mode"]) == ("val/accuracy", "max")
        assert result["batch_halvings"] == 0


def test_a_growing_sweep_runs_what_is_new_and_tells_what_fails(twice):
    cwd, _ = twice
    before = results(cwd)
    raises = folder_of(cwd, "model.hidden_size=8")
    (raises.path / "metrics.csv").mkdir(parents=True)  # a file has to go there
    line = (f"model.hidden_size=8,{TOO_LARGE},16,24", "max_retries=1")
    process = start_sweep(*line, cwd=cwd)
    assert process.wait() == 1
    said = process.printed()
    assert "Traceback" not in said

    after = results(cwd)
    assert before.items() <= after.items()
    assert set(after) - set(before) == {folder_of(cwd, "model.hidden_size=24").name}

    # The moment it happens: before the next job begins.
    failed = f"error: {raises.name} failed: IsADirectoryError"
    assert said.index(f"{raises.name}: IsADirectoryError") < said.index(failed)  # the retry
    assert said.index(failed) < said.index("#1 :")
    assert "model.hidden_size=8" in said[said.index(failed) : said.index("#1 :")]
    log = raises.path / "train.log"
    assert f"log: {log}" in said and "Traceback" in log.read_text()
    failure = raises.read("failure")
    assert failure["type"] == "IsADirectoryError" and failure["attempts"] == 2
    assert failure["log"] == str(log) and "model.hidden_size=8" in failure["overrides"]

    large = folder_of(cwd, f"model.hidden_size={TOO_LARGE}")
    assert f"{large.name}: out of memory with data.batch_size=4 " in said
    failure = large.read("failure")
    assert "out of memory, even with data.batch_size=1 " in failure["error"]
    assert failure["batch_halvings"] == 2 and failure["attempts"] == 3

    named = said[said.index("2 of 5 jobs are not done") :]
    assert raises.name in named and large.name in named


def test_two_terminals_add_seeds_to_a_sweep(twice):
    cwd, _ = twice
    line = ("sweep=seeds", "report_dir=there")
    both = [start_sweep(f"seed={seed}", *line, cwd=cwd) for seed in (5, 6)]
    statuses = [process.wait() for process in both]
    assert statuses == [0, 0], [process.printed() for process in both]
    assert all(process.printed().count("not done") == 0 for process in both)
    assert all(f"Report: {cwd}/there/summary.csv" in process.printed() for process in both)
    with (cwd / "there" / "summary.csv").open(newline="") as file:  # of whichever ended last
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_out_of_memory_is_tried_again_at_half_the_batch(tmp_path):
    """For real: the process may not have the memory that the whole batch takes."""
    folder = tmp_path / "run"
    large = ("data=demo", "data.num_train=1200", "data.num_test=20", "data.batch_size=1024")
    options = (
        *large,
        "data.eval_batch_size=8",
        "model.hidden_size=16",
        "model.embedding_dim=2048",
        "trainer.max_epochs=1",
    )
    place = (
        f"hydra.run.dir={folder}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "logger=none",
        "plots=false",
    )
    beyond = str(700 * 2**20)  # bytes
    limited = ("tests/cli/limited.py", beyond, *options, *place, "trainer=cpu")
    done = run_warm_command(*limited, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "run: out of memory with data.batch_size=1024 trainer.accumulate_grad_batches=1; "
        in done.stderr
    )
    result = json.loads((folder / "result.json").read_text())
    assert result["batch_halvings"] >= 1
    smaller = result["data"]["options"]["batch_size"], result["trainer"]["accumulate_grad_batches"]
    assert smaller == (1024 // 2 ** result["batch_halvings"], 2 ** result["batch_halvings"])
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        asked = hydra.compose("train", [*options, "trainer=cpu", "logger=none"])
    assert result["config_fingerprint"] == job_fingerprint(resolve_options(asked))


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path):
    line = ("model=rnn,gru", "seed=1,2", "trainer.max_epochs=2")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for cwd in (undisturbed, killed):
        cwd.mkdir()
    beside = start_sweep(*line, cwd=undisturbed)
    rng, finished = random.Random(0), {}
    for _ in range(3):
        process = start_sweep(*line, cwd=killed)
        wait_for_new_job(killed, process)
        time.sleep(rng.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert finished.items() <= results(killed).items(), "a job was finished twice"
        finished = results(killed)
    process = start_sweep(*line, cwd=killed)
    assert process.wait() == 0, process.printed()
    assert finished.items() <= results(killed).items(), "a job was finished twice"
    assert beside.wait() == 0, beside.printed()
    whole = untimed_results(undisturbed)
    assert len(whole) == 4
    assert untimed_results(killed) == whole
    for name in whole:
        predictions = [
            cwd / "runs/mine" / name / "predictions.csv" for cwd in (undisturbed, killed)
        ]
        assert predictions[0].read_bytes() == predictions[1].read_bytes()


def wait_for_new_job(cwd: Path, process: Started) -> None:
    """Wait until the sweep is past what was finished before and at work on a job."""
    while process.poll() is None:
        jobs = [path.parent for path in cwd.glob("runs/mine/*/job.json")]
        if any(
            not (job / "result.json").exists() and JobDir(job).status == "running" for job in jobs
        ):
            return
        time.sleep(0.05)
