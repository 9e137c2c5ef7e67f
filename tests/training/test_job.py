"""Before Hydra writes into the folder of a run or of a sweep, it is checked and locked."""

import json
import re
from pathlib import Path

import pytest
from omegaconf import DictConfig

from rnn_lab.errors import ConfigError
from rnn_lab.io.locks import acquire, is_locked
from rnn_lab.training.config import check_sweep_name
from rnn_lab.training.job import LockRunDir
from rnn_lab.training.job_dir import job_fingerprint, resolve_options
from tests.cli.forked import run_warm_command
from tests.io.test_locks import HOLD, another
from tests.test_conf import composed_with_hydra


def compose(folder: Path, *overrides: str) -> DictConfig:
    return composed_with_hydra(*overrides, f"hydra.run.dir={folder}")


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


def test_an_error_of_a_single_run_is_raised_where_a_pruned_trial_was(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pruned.json").write_text('{"value": 0.5}')
    options = ("data=files", "data.train_path=absent.csv", "logger=none", "hydra.run.dir=run")
    done = run_warm_command("train.py", *options, cwd=tmp_path)
    assert done.returncode == 1 and "absent.csv" in done.stderr


def records(folder: Path) -> dict[str, bytes]:
    """Return the files of a run but its log and lock, by their names."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in files if path.suffix not in (".log", ".lock")}


def test_the_records_of_a_run_change_when_resume_never_replaces_it_and_not_before(tmp_path):
    def train(*overrides: str) -> str:
        smoke = ("experiment=smoke", "plots=false", "baseline=none", "hydra.run.dir=run")
        return run_warm_command("train.py", *smoke, *overrides, cwd=tmp_path).stderr

    train()
    (tmp_path / "run" / "result.json").unlink()  # as if it had been killed in its test
    before = records(tmp_path / "run")
    assert "absent.csv" in train("resume=never", "data=files", "data.train_path=absent.csv")
    assert records(tmp_path / "run") == before

    # Refused after the training began.
    assert "trainer.max_time" in train("resume=never", "seed=7", "trainer.max_time=00:00:00:00")
    after = records(tmp_path / "run")
    assert "seed=7" in json.loads(after["failure.json"])["overrides"]
    assert "seed=7" in json.loads(after["job.json"])["overrides"]
    assert b"seed: 7" in after["config.yaml"]
