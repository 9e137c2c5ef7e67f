"""The Python interface: its doctests, on a small exported run, and what they leave open."""

import doctest
import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import rnn_lab
from rnn_lab import api
from rnn_lab.data.config import DemoConfig
from rnn_lab.errors import CheckpointError, ConfigError, DataError
from rnn_lab.inference.batch_predict import WINDOW, classify
from rnn_lab.inference.export import write_safetensors
from rnn_lab.inference.load import load_model
from rnn_lab.models.config import OptimizerConfig, SchedulerConfig
from tests.inference.untrained import untrained_run


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """An exported run of random weights, with the classes neg and pos."""
    run = untrained_run(name="lstm")
    about = {
        "hyper_parameters": {
            "model": run.model_config.model_dump(),
            "vocab_size": run.text_encoder.vocab_size,
            "num_classes": len(run.class_names),
            "optimizer": OptimizerConfig().model_dump(),
            "scheduler": SchedulerConfig().model_dump(),
        },
        "TextDataModule": {
            "config": DemoConfig().model_dump(mode="json"),
            "class_names": list(run.class_names),
            "corpus_fingerprint": "",
            "text_encoder": run.text_encoder.state_dict(),
        },
    }
    file = tmp_path_factory.mktemp("exported") / "model.safetensors"
    write_safetensors(file, run.model.state_dict(), about)
    return file


@pytest.mark.parametrize("module", [api, rnn_lab], ids=["api", "rnn_lab"])
def test_the_examples_of_the_documentation(module, path, tmp_path):
    names = {"rnn_lab": rnn_lab, "path": path, "folder": tmp_path}
    tried = doctest.testmod(module, extraglobs=names, raise_on_error=False)
    assert tried.failed == 0 and tried.attempted > 0


def test_every_public_name_has_an_example():
    for name in ("load", "Prediction"):
        assert ">>> " in getattr(rnn_lab, name).__doc__
    for name in ("predict", "stream", "explain", "class_names"):
        assert ">>> " in getattr(rnn_lab.Model, name).__doc__


def test_predictions_are_those_of_the_network_in_order(path):
    texts = ["a good film", "not good at all", "the film was bad", "", "zzz"] * 3
    model, run = rnn_lab.load(path), load_model(path)
    predictions = model.predict((text for text in texts), batch_size=4)
    for text, prediction in zip(texts, predictions, strict=True):
        (expected,) = classify(run, [run.text_encoder.encode(text)], 1)
        assert list(prediction.probabilities) == ["neg", "pos"]
        np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-6)
        assert prediction.label == run.class_names[expected.argmax()]
    assert model.predict([]) == []


def test_a_stream_is_read_by_windows(path):
    read = itertools.count()
    texts = ("a film" for _ in read)
    stream = rnn_lab.load(path).stream(texts)
    assert next(read) == 0
    assert len(list(itertools.islice(stream, 3))) == 3
    assert next(read) == WINDOW + 1


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        ("a film", TypeError, "single string"),
        (b"a film", TypeError, "single string"),
        (["a film", None], TypeError, "text 1 is not a string: NoneType"),
        ([b"a film"], TypeError, "text 0 is not a string: bytes"),
        (["a film", "caf\udce9"], DataError, "text 1: is not valid Unicode"),
    ],
)
def test_what_is_not_a_text_is_named_by_its_position(path, texts, error, said):
    with pytest.raises(error, match=said):
        rnn_lab.load(path).predict(texts)


@pytest.mark.parametrize("place", ["run", "run/result.json", "run/checkpoints/best.ckpt", "~/run"])
def test_a_run_is_found_however_it_is_named(mood_run, tmp_path, monkeypatch, place):
    shutil.copytree(mood_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    model = rnn_lab.load(place, device="cpu")
    assert model.class_names == ("bad", "good", "so so")
    assert [p.label for p in model.predict(["a lovely film", "awful"])] == ["good", "bad"]


def test_an_explanation_has_the_words_the_gates_and_a_page(mood_run, tmp_path):
    model = rnn_lab.load(mood_run)
    explanation = model.explain("the music was lovely then")
    (predicted,) = model.predict(["the music was lovely then"])
    assert explanation.prediction == predicted.label == "good"
    np.testing.assert_allclose(
        list(explanation.probabilities.values()), list(predicted.probabilities.values()), atol=1e-6
    )
    strongest = max(explanation.words, key=lambda word: word.attribution)
    assert strongest.text == "lovely" and strongest.known
    total = sum(word.attribution for word in explanation.words)
    assert total == pytest.approx(explanation.attributions.sum())
    assert explanation.prefix_probabilities.shape == (5, 3)
    assert {"0_forward_r", "0_forward_z", "0_forward_h"} < set(explanation.states)
    assert {values.shape for values in explanation.states.values()} == {(5, 16)}
    page = explanation.save(tmp_path / "page")
    assert page == tmp_path / "page" / "explanation.html" and "lovely" in page.read_text()


def test_errors_name_the_file_or_the_device(path, tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere: no such run folder"):
        rnn_lab.load("nowhere")
    if not torch.backends.mps.is_available():
        with pytest.raises(ConfigError, match="device=mps"):
            rnn_lab.load(path, device="mps")


def test_a_prediction_imports_nothing_slow_but_torch(path, mood_run):
    """Each of these takes a second or more, and a single prediction needs none of them."""
    code = (
        "import sys, rnn_lab; [rnn_lab.load(path).class_names for path in sys.argv[1:]];"
        "slow = {'lightning', 'torchmetrics', 'matplotlib', 'wandb', 'pandas', 'numba', 'hydra'};"
        "slow |= {'torch._dynamo'};"
        "sys.exit(str(slow & {*sys.modules}) if slow & {*sys.modules} else 0)"
    )
    subprocess.run([sys.executable, "-c", code, path, mood_run], check=True)
