"""The names of served runs, and what a client sees of them."""

import json
import shutil
from pathlib import Path

import pytest

from rnn_lab.inference.load import load_model
from rnn_lab.serving.runs import _describe, unique_name


def test_a_run_has_the_name_of_its_folder_or_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("runs/gru/checkpoints", "v1.2"):
        Path(place).mkdir(parents=True)
    for file in ("runs/gru/result.json", "runs/gru/checkpoints/best.ckpt", "model.onnx"):
        Path(file).touch()
    names = {
        "runs/gru": "gru",
        "runs/gru/": "gru",
        "runs/gru/result.json": "gru",
        "runs/gru/checkpoints/best.ckpt": "gru",
        str(tmp_path / "model.onnx"): "model",
        "v1.2": "v1.2",  # a folder
    }
    assert {run: unique_name(run, []) for run in names} == names
    monkeypatch.chdir("runs/gru")
    assert unique_name(".", ["gru", "gru-2"]) == "gru-3"


@pytest.mark.parametrize("damage", ["", "{}", "[" * 9, "data", "model"])
def test_a_run_whose_result_is_damaged_is_described_by_its_network(mood_run, tmp_path, damage):
    copied = shutil.copytree(mood_run, tmp_path / "copied")
    file = copied / "result.json"
    whole = json.loads(file.read_text())
    about = _describe("copied", load_model(copied))
    assert about["description"].endswith("GRU on moods.csv, seed 1") or about["metrics"]
    if damage in whole:
        whole[damage] = {"name": "long_range"}
        file.write_text(json.dumps(whole))
    else:
        file.write_text(damage)
    about = _describe("copied", load_model(copied))
    assert about["cell"] == "gru" and about["classes"] == ["bad", "good", "so so"]
    json.dumps(about, allow_nan=False)
