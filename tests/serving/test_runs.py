"""The names of served runs, and what a client sees of them."""

import json
import shutil
from pathlib import Path

import pytest

from rnn_lab.inference.load import load_model
from rnn_lab.serving import answers
from rnn_lab.serving.answers import explanation_json
from rnn_lab.serving.guard import RequestError
from rnn_lab.serving.runs import ServedRun, _describe, unique_name
from rnn_lab.serving.schemas import ExplainRequest


def test_a_run_has_the_name_of_its_folder_or_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("runs/gru/checkpoints", "v1.2", "checkpoints/lstm"):
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
        "checkpoints/lstm": "lstm",
    }
    assert {run: unique_name(run, []) for run in names} == names
    assert unique_name("model.onnx", ["model"]) == "model.onnx"
    assert unique_name("model.onnx", ["model", "model.onnx"]) == "model-2"
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


def test_more_values_than_an_answer_has_are_refused_before_anything_is_explained(
    mood_run, monkeypatch
):
    run = ServedRun("moods", load_model(mood_run), None)
    asked = ExplainRequest(text="a lovely film", units=3)
    gates = json.loads(explanation_json(run, asked))["gates"]
    count = sum(len(row) for gate in gates for row in gate["values"])
    monkeypatch.setattr(answers, "_MAX_GATE_VALUES", count)
    explanation_json(run, asked)
    monkeypatch.setattr(answers, "_MAX_GATE_VALUES", count - 1)
    monkeypatch.setattr(ServedRun, "explain", None)
    with pytest.raises(RequestError, match="units: too many for this text"):
        explanation_json(run, asked)
