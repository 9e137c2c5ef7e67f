"""The folder of a sweep, and the labels of its runs."""

import pytest
from omegaconf import OmegaConf

import rnn_lab.cli  # noqa: F401  it registers ${job_dir:}
from rnn_lab.errors import ConfigError
from rnn_lab.sweeps.naming import sweep_label
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import validate
from tests.test_conf import composed, composed_with_hydra

BASE = ("data=demo", "model=gru")


@pytest.mark.parametrize("name", [None, "mine", "2024", "lr-coarse"])
def test_sweep_has_its_folder_under_runs(name):
    config = composed_with_hydra(*BASE, f"sweep={'null' if name is None else name}")
    folder = OmegaConf.select(config, "hydra.sweep.dir")
    assert folder.startswith("runs/")
    assert folder.endswith("_sweep") if name is None else folder == f"runs/{name}"


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp", "", ".hidden", "a/b"])
def test_sweep_name_outside_runs_is_refused(name):
    with pytest.raises(ConfigError, match="sweep="):
        validate(RunConfig, composed(*BASE).model_dump() | {"sweep": name})


def test_label_while_another_process_replaces_the_command(tmp_path):
    (tmp_path / "multirun.yaml").touch()
    assert sweep_label(tmp_path, ["seed=1"], {"seed": 1}).parameters == {}
