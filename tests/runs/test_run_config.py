"""The composed config of a run is read as it was written."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rnn_lab.runs.run_config import config_from_result, read_config, resolve
from tests.reports.sweep_folders import composed, write_job


def test_references_to_the_environment_and_cycles_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "tell nobody")
    options = {"name": "${oc.env:SECRET}", "seed": "${data.split_seed}"}
    config = read_config(write_job(tmp_path, "job", epochs=0, **options))
    assert config["name"] == "${oc.env:SECRET}" == resolve(config, "name")
    assert str(resolve(config, "seed")).startswith("${")


def test_a_run_without_a_config_uses_its_result(tmp_path: Path) -> None:
    result = {
        "model": {"name": "gru", "parameters": 9},
        "optimizer": {"lr": 0.1},
        "trainer": {"max_epochs": 3, "precision": "32-true"},
        "data": {"name": "imdb", "options": {"batch_size": 64, "split_seed": 5}},
        "seed": 5,
    }
    config = config_from_result(json.loads(json.dumps(result)))
    assert config == {
        "model.name": "gru",
        "optimizer.lr": 0.1,
        "trainer.max_epochs": 3,
        "data.batch_size": 64,
        "data.split_seed": "${seed}",
        "seed": 5,
    }
    assert read_config(tmp_path) == {}


def test_lists_and_hydras_own_yaml_are_read(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    config = OmegaConf.create(composed(optimizer__lr=1e-5, data__class_names=["no", "yes"]))
    OmegaConf.save(config, tmp_path / ".hydra" / "config.yaml")
    found = read_config(tmp_path)
    assert found["optimizer.lr"] == 1e-5
    assert found["data.class_names"] == '["no", "yes"]'
