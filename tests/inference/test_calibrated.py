"""A run whose probabilities are calibrated gives the same ones wherever it is read."""

import csv
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from rnn_lab.commands import export
from rnn_lab.data.datamodule import RunEncoding, TextDataModule
from rnn_lab.errors import CheckpointError
from rnn_lab.inference.evaluate import evaluate
from rnn_lab.inference.explanation import explain_text
from rnn_lab.inference.load import load_model
from rnn_lab.inference.onnx_export import export_onnx
from rnn_lab.inference.onnx_model import load_onnx, parse_onnx
from rnn_lab.inference.predict import predict
from rnn_lab.io.safetensors_file import pack_safetensors
from rnn_lab.reports.evaluation_curves import reliability, without_temperature
from rnn_lab.runs.predictions import read_predictions
from rnn_lab.serving.runs import _describe
from tests.cli.forked import run_warm_command
from tests.inference.untrained import untrained_run

LAST_EPOCH = "trainer.check_val_every_n_epoch=10"  # the only one that is validated, and so selected


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a run that is too sure of itself: one label in four contradicts its word."""
    cwd, rng = tmp_path_factory.mktemp("calibrated"), random.Random(0)
    filler = ["the", "film", "was", "an", "actor", "spoke", "scene", "music", "ended", "then"]
    with (cwd / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(600):
            label = rng.choice(["bad", "good"])
            words = [*rng.choices(filler, k=8), "awful" if label == "bad" else "lovely"]
            rng.shuffle(words)
            if rng.random() < 0.25:
                label = {"bad": "good", "good": "bad"}[label]
            writer.writerow([" ".join(words), label])
    train(cwd, "run", LAST_EPOCH)
    return cwd


def train(cwd: Path, name: str, *options: str) -> None:
    done = run_warm_command(
        "train.py",
        *("data=files", "data.train_path=texts.csv", "data.val_fraction=0.4", "model=gru"),
        *("model.hidden_size=16", "model.embedding_dim=16", "model.ngrams=0", "optimizer.lr=0.08"),
        *("model.dropout=0", "model.word_dropout=0", "trainer.max_epochs=10", "data.batch_size=40"),
        *("trainer.patience=null", "baseline=none", "plots=false", "logger=none", "trainer=cpu"),
        *(f"hydra.run.dir={name}", "trainer.monitor=val/loss", *options),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_the_temperature_is_the_best_one_for_the_validation_split(trained):
    run, result = load_model(trained / "run"), result_of(trained / "run")
    assert run.temperature == result["calibration"]["temperature"] > 1.05
    config = run.data_config.model_copy(update={"train_path": str(trained / "texts.csv")})
    data = TextDataModule(config, encoding=RunEncoding(run.text_encoder, run.class_names))
    data.setup()
    logits, labels = [], []
    for batch in data.val_dataloader():
        with torch.no_grad():
            logits.append(run.model(batch.tokens, batch.lengths).double().numpy())
        labels.append(batch.labels.numpy())
    z, y = np.concatenate(logits), np.concatenate(labels)

    def loss(temperature):
        return -log_softmax(z / temperature, axis=1)[np.arange(len(y)), y].mean()

    assert loss(1) == pytest.approx(result["val/loss"], abs=1e-5)
    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8})
    assert run.temperature == pytest.approx(best.x, rel=1e-4)


def test_the_test_metrics_are_those_of_calibrated_probabilities(trained):
    result, found = result_of(trained / "run"), read_predictions(trained / "run")
    calibration = result["calibration"]
    before = without_temperature(found, calibration["temperature"])
    for predictions, metrics in ((found, result), (before, calibration["uncalibrated"])):
        rows = np.arange(len(found.labels)), found.labels
        loss = -np.log(predictions.probabilities[rows]).mean()
        assert metrics["test/loss"] == pytest.approx(loss, abs=1e-4)
        error = reliability(predictions).error
        assert metrics["test/calibration_error"] == pytest.approx(error, abs=1e-4)
    # Which of them has the lower loss is chance on a few texts; none is surer than before.
    surest, surest_before = (p.probabilities.max(axis=1) for p in (found, before))
    assert (surest < surest_before).all()
    np.testing.assert_allclose(found.losses.mean(), result["test/loss"], atol=1e-5)


def test_every_reader_gives_the_same_probabilities(trained, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("a lovely film\nan awful scene\nlovely lovely awful music\n")
    for name in ("model.safetensors", "model.onnx"):
        export([f"run={trained / 'run'}", f"output={tmp_path / name}"])
    run = load_model(trained / "run")
    encoded = [run.text_encoder.encode(text) for text in texts.read_text().splitlines()]
    with torch.no_grad():
        logits = [
            run.model(torch.from_numpy(ids)[None], torch.tensor([len(ids)])) for ids in encoded
        ]
    z = torch.cat(logits).double().numpy()
    exact = np.exp(log_softmax(z / run.temperature, axis=1))
    assert abs(exact - np.exp(log_softmax(z, axis=1))).max() > 0.01

    written = {}
    for place in (trained / "run", tmp_path / "model.safetensors", tmp_path / "model.onnx"):
        output = tmp_path / f"{place.name}.jsonl"
        predict({"run": str(place), "input": str(texts), "output": str(output)})
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        written[place.name] = [list(row["probabilities"].values()) for row in rows]
        np.testing.assert_allclose(written[place.name], exact, atol=1e-6)
    assert written["run"] == written["model.safetensors"]
    assert load_onnx(tmp_path / "model.onnx").temperature == run.temperature
    explained = explain_text(run, texts.read_text().splitlines()[0])
    np.testing.assert_allclose(list(explained.probabilities.values()), exact[0], atol=1e-6)
    assert _describe("run", run)["temperature"] == run.temperature
    card = (tmp_path / "model.onnx.md").read_text()
    assert f"with a temperature of {run.temperature:.2f}" in card
    assert "% without calibration)" in card


def test_eval_has_the_metrics_of_the_run(trained, tmp_path):
    copied = shutil.copytree(trained, tmp_path / "copied")
    other = {"source": "files", "test_path": str(copied / "texts.csv")}
    options = {"run": str(copied / "run"), "output_dir": str(tmp_path / "tested"), "data": other}
    evaluate(options | {"cache_dir": str(tmp_path / "cache")})
    tested, found = result_of(tmp_path / "tested"), read_predictions(tmp_path / "tested")
    assert (
        tested["calibration"]["temperature"]
        == result_of(trained / "run")["calibration"]["temperature"]
    )
    before = without_temperature(found, tested["calibration"]["temperature"])
    for predictions, metrics in ((found, tested), (before, tested["calibration"]["uncalibrated"])):
        error = reliability(predictions).error
        assert metrics["test/calibration_error"] == pytest.approx(error, abs=1e-4)


def test_without_calibration_the_rest_is_the_same(trained):
    train(trained, "plain", LAST_EPOCH, "trainer.calibrate=false")
    run, plain = trained / "run", trained / "plain"
    assert result_of(plain)["calibration"]["temperature"] == 1.0
    assert result_of(plain)["trainer"]["calibrate"] is False
    found, expected = (
        torch.load(p / "checkpoints/last.ckpt", weights_only=True) for p in (run, plain)
    )
    for name, weight in expected["state_dict"].items():
        is_equal = torch.equal(weight, found["state_dict"][name])
        assert is_equal == (name != "classifier.temperature"), name
    for name, value in result_of(plain).items():
        if name.startswith("val/") or name in ("test/accuracy", "test/f1", "per_class"):
            assert result_of(run)[name] == value, name
    assert result_of(run)["calibration"]["uncalibrated"] == {
        name: result_of(plain)[name] for name in ("test/loss", "test/calibration_error")
    }
    same = read_predictions(run).predicted == read_predictions(plain).predicted
    assert same.all()


def test_a_run_that_is_not_tested_reports_the_temperature_of_its_best_epoch(trained):
    train(trained, "untested", "test=false")
    result = result_of(trained / "untested")
    assert result["calibration"] == {
        "temperature": load_model(trained / "untested").temperature,
        "uncalibrated": {},
    }
    last = torch.load(trained / "untested/checkpoints/last.ckpt", weights_only=True)
    assert result["best_epoch"] < last["epoch"]
    of_last = last["state_dict"]["classifier.temperature"].item()
    assert of_last != result["calibration"]["temperature"]


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(trained, tmp_path, temperature):
    run = load_model(trained / "run")
    run.model.temperature = torch.tensor(temperature)
    (tmp_path / "model.safetensors").write_bytes(
        pack_safetensors(run.model.state_dict(), run.about)
    )
    with pytest.raises(CheckpointError, match="damaged: its temperature is not positive"):
        load_model(tmp_path / "model.safetensors")
    made = untrained_run()
    made.model.temperature.fill_(temperature)
    with pytest.raises(CheckpointError, match="damaged: its temperature is not positive"):
        export_onnx(made, ["a film"])


def test_labels_with_a_temperature_are_predicted_alike_by_onnx():
    run = untrained_run(task="multilabel", class_names=("a", "b", "c"))
    run.model.temperature.fill_(2.5)
    run.model.thresholds.copy_(torch.tensor([0.4, 0.6, 0.5]))
    exported = parse_onnx(export_onnx(run, ["a good film"])[0], Path("model.onnx"))
    ids = run.text_encoder.encode("not a bad film")
    with torch.no_grad():
        logits = run.model(torch.from_numpy(ids)[None], torch.tensor([len(ids)]))
    (row,) = exported.probabilities([ids])
    np.testing.assert_allclose(row, (logits[0] / 2.5).sigmoid(), atol=1e-6)
    np.testing.assert_array_equal(run.probabilities([ids])[0], (logits[0] / 2.5).sigmoid())
    assert exported.temperature == run.temperature == 2.5
    assert exported.predicted(row) == run.predicted(row)
