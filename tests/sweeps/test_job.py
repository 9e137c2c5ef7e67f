"""The files of a job's folder, the status they give it, and the lock before Hydra writes there."""

import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from rnn_lab.errors import ConfigError
from rnn_lab.io.locks import acquire, is_locked
from rnn_lab.paths import conf_dir
from rnn_lab.runs.jobs import find_job_dirs, job_status
from rnn_lab.sweeps.job import JobDir, LockRunDir
from rnn_lab.sweeps.naming import job_fingerprint, resolve_options
from rnn_lab.training.config import check_sweep_name
from tests.cli.runner import PROJECT
from tests.io.test_locks import HOLD, another

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


def compose(folder: Path, *overrides: str) -> DictConfig:
    """Compose conf/train.yaml with Hydra's own part."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose(
            "train", [*overrides, f"hydra.run.dir={folder}"], return_hydra_config=True
        )


def write_unfinished_run(folder: Path, fingerprint: str) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "job.json").write_text(json.dumps({"fingerprint": fingerprint}))


def test_run_locks_its_folder(tmp_path):
    config, callback = compose(tmp_path / "run"), LockRunDir()
    callback.on_run_start(config)
    assert is_locked(tmp_path / "run" / "job.lock")
    assert config.hydra.output_subdir == ".hydra"
    acquire(tmp_path / "run" / "job.lock", "there").release()  # again, by the same process


def test_second_process_is_refused(tmp_path, capsys):
    config = compose(tmp_path)
    with another(HOLD, tmp_path / "job.lock") as process, pytest.raises(SystemExit, match=r"^1$"):
        LockRunDir().on_run_start(config)
    assert re.match(
        rf"error: hydra\.run\.dir=\S+: locked by process {process.pid} ", capsys.readouterr().err
    )
    LockRunDir().on_run_start(compose(tmp_path))  # the other one was killed


def test_finished_run_is_refused(tmp_path, capsys):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"^1$"):
        LockRunDir().on_run_start(compose(tmp_path))
    assert "contains a finished run; choose another folder" in capsys.readouterr().err


def test_each_line_of_a_refusal_is_an_error(tmp_path, capsys):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"^1$"):
        LockRunDir().on_run_start(compose(tmp_path, "seed=-1", "model.hidden_size=0"))
    lines = sorted(capsys.readouterr().err.splitlines())
    assert [line.partition("=")[0] for line in lines] == ["error: model.hidden_size", "error: seed"]


@pytest.mark.parametrize(
    ("overrides", "subdir"), [((), ".hydra"), (("seed=2",), None), (("resume=never",), ".hydra")]
)
def test_config_of_an_unfinished_run_is_kept_when_options_differ(tmp_path, overrides, subdir):
    write_unfinished_run(tmp_path, job_fingerprint(resolve_options(compose(tmp_path))))
    other = ("seed=3",) if "resume=never" in overrides else ()
    config = compose(tmp_path, *overrides, *other)
    LockRunDir().on_run_start(config)
    assert config.hydra.output_subdir == subdir


@pytest.mark.parametrize("name", ["größe, (1)", "it's a=b", "$HOME", "-1", "[x] #2", "数据"])
def test_a_sweep_may_have_any_name_of_a_folder(name):
    check_sweep_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", " a", "${b}", "a\n", "a\x1b[0m"]
)
def test_a_sweep_has_one_folder_that_reports_list(name):
    with pytest.raises(ConfigError, match="without slashes"):
        check_sweep_name(name)


@pytest.mark.parametrize("start", ["on_run_start", "on_multirun_start"])
def test_sweep_name_outside_runs_creates_no_folder(tmp_path, start, capsys):
    config = compose(tmp_path / "run", "sweep=../x")
    with pytest.raises(SystemExit, match=r"^1$"):
        getattr(LockRunDir(), start)(config)
    error = "error: sweep=../x: give a name for the folder"
    assert capsys.readouterr().err.startswith(error)
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_refused_before_the_sweep(tmp_path, capsys):
    (tmp_path / "file").touch()
    config = compose(tmp_path / "run", f"report_dir={tmp_path}/file/reports", "sweep=mine")
    with pytest.raises(SystemExit, match=r"^1$"):
        LockRunDir().on_multirun_start(config)
    assert re.fullmatch(
        r"error: report_dir=\S+/file/reports: cannot be written: .*choose another folder\n",
        capsys.readouterr().err,
    )
    config = compose(tmp_path / "run", f"report_dir={tmp_path}/new/reports", "sweep=mine")
    LockRunDir().on_multirun_start(config)
    assert list((tmp_path / "new" / "reports").iterdir()) == []


# Jobs one after the other in the sweep argv[1], with the files that Hydra and a run write, in turn.
JOBS = """
import itertools, shutil, sys
from pathlib import Path
from rnn_lab.sweeps.job import JobDir
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
