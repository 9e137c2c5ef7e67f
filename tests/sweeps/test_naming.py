"""The name of a job's folder, which follows from its config, and the folder of a sweep."""

import hydra
import pytest
from omegaconf import OmegaConf

import rnn_lab.cli  # noqa: F401  it registers ${job_dir:}
from rnn_lab.errors import ConfigError
from rnn_lab.sweeps.naming import job_dir_name, job_fingerprint, resolve_options, sweep_label
from rnn_lab.training.config import RunConfig
from rnn_lab.training.spec import config_fingerprint
from rnn_lab.validation import validate
from tests.test_conf import CONF, composed

BASE = ("data=demo", "model=gru")


def composed_with_hydra(*overrides: str):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides), return_hydra_config=True)


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
