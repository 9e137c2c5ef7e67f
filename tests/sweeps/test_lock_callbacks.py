"""What happens before Hydra writes into a run's folder."""

import json
import re
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig
from rnn_lab.sweeps.fingerprint import config_fingerprint

from rnn_lab.cli import CONF
from rnn_lab.io.atomic import is_locked
from rnn_lab.io.locks import acquire
from rnn_lab.sweeps.lock_callbacks import LockOutputDir
from tests.io.test_locks import HOLD, another


def compose(folder: Path, *overrides: str) -> DictConfig:
    """As train.py composes it, with Hydra's own part."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(
            "train", [*overrides, f"hydra.run.dir={folder}"], return_hydra_config=True
        )


def resume_point(folder: Path, fingerprint: str) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "job.json").write_text(json.dumps({"fingerprint": fingerprint}))


def test_a_folder_is_taken_for_the_run(tmp_path):
    config, callback = compose(tmp_path / "run"), LockOutputDir()
    callback.on_run_start(config)
    assert is_locked(tmp_path / "run" / "job.lock")
    assert config.hydra.output_subdir == "config"
    acquire(tmp_path / "run" / "job.lock", "there").release()  # again, by the same process


def test_who_comes_second_is_refused(tmp_path):
    config = compose(tmp_path)
    with another(HOLD, tmp_path / "job.lock") as process, pytest.raises(SystemExit) as refused:
        LockOutputDir().on_run_start(config)
    assert re.match(rf"error: hydra\.run\.dir=\S+: process {process.pid} ", refused.value.code)
    LockOutputDir().on_run_start(compose(tmp_path))  # it has been killed


def test_a_finished_run_is_refused(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds a finished run; choose another folder"):
        LockOutputDir().on_run_start(compose(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "subdir"), [((), "config"), (("seed=2",), None), (("resume=never",), "config")]
)
def test_the_config_of_a_half_done_run_stays_until_the_command_fits_it(tmp_path, overrides, subdir):
    resume_point(tmp_path, config_fingerprint(compose(tmp_path)))
    other = ("seed=3",) if "resume=never" in overrides else ()
    config = compose(tmp_path, *overrides, *other)
    LockOutputDir().on_run_start(config)
    assert config.hydra.output_subdir == subdir


@pytest.mark.parametrize("start", ["on_run_start", "on_multirun_start"])
def test_a_name_that_is_no_folder_under_runs_makes_no_folder(tmp_path, start):
    config = compose(tmp_path / "run", "sweep=../x")
    with pytest.raises(SystemExit, match=r"error: sweep=\.\./x: give a name for the folder"):
        getattr(LockOutputDir(), start)(config)
    assert list(tmp_path.iterdir()) == []
