"""The lock of a run's folder, taken before Hydra writes into it."""

import json
import re
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from rnn_lab.io.locks import acquire, is_locked
from rnn_lab.paths import conf_dir
from rnn_lab.sweeps.lock_callbacks import LockOutputDir
from rnn_lab.sweeps.naming import job_fingerprint, resolve_options
from tests.io.test_locks import HOLD, another


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
    config, callback = compose(tmp_path / "run"), LockOutputDir()
    callback.on_run_start(config)
    assert is_locked(tmp_path / "run" / "job.lock")
    assert config.hydra.output_subdir == ".hydra"
    acquire(tmp_path / "run" / "job.lock", "there").release()  # again, by the same process


def test_second_process_is_refused(tmp_path):
    config = compose(tmp_path)
    with another(HOLD, tmp_path / "job.lock") as process, pytest.raises(SystemExit) as refused:
        LockOutputDir().on_run_start(config)
    assert re.match(
        rf"error: hydra\.run\.dir=\S+: locked by process {process.pid} ", refused.value.code
    )
    LockOutputDir().on_run_start(compose(tmp_path))  # the other one was killed


def test_finished_run_is_refused(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(SystemExit, match="contains a finished run; choose another folder"):
        LockOutputDir().on_run_start(compose(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "subdir"), [((), ".hydra"), (("seed=2",), None), (("resume=never",), ".hydra")]
)
def test_config_of_an_unfinished_run_is_kept_when_options_differ(tmp_path, overrides, subdir):
    write_unfinished_run(tmp_path, job_fingerprint(resolve_options(compose(tmp_path))))
    other = ("seed=3",) if "resume=never" in overrides else ()
    config = compose(tmp_path, *overrides, *other)
    LockOutputDir().on_run_start(config)
    assert config.hydra.output_subdir == subdir


@pytest.mark.parametrize("start", ["on_run_start", "on_multirun_start"])
def test_sweep_name_outside_runs_creates_no_folder(tmp_path, start):
    config = compose(tmp_path / "run", "sweep=../x")
    with pytest.raises(SystemExit, match=r"error: sweep=\.\./x: give a name for the folder"):
        getattr(LockOutputDir(), start)(config)
    assert list(tmp_path.iterdir()) == []
