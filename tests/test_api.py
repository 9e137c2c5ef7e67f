"""The Python interface: its doctests, on a small exported run, and what they leave open."""

import doctest
import itertools
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import hydra
import numpy as np
import pyarrow
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

import rnn_lab
from rnn_lab import api
from rnn_lab.data.config import DemoConfig
from rnn_lab.errors import CheckpointError, ConfigError, DataError, OutputDirConflictError
from rnn_lab.inference.batch_predict import WINDOW, classify
from rnn_lab.inference.evaluate import evaluate
from rnn_lab.inference.load import load_model
from rnn_lab.io.safetensors_file import pack_safetensors
from rnn_lab.models.config import OptimizerConfig, SchedulerConfig
from rnn_lab.reports.explain.page import shade
from rnn_lab.runs.predictions import read_predictions
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
    file.write_bytes(pack_safetensors(run.model.state_dict(), about))
    return file


@pytest.fixture
def tiny_training(tmp_path):
    """Arguments of rnn_lab.train for a run of a second or two."""
    plain = ["logger=none", "plots=false", "trainer=cpu", "trainer.enable_progress_bar=false"]
    small = ["trainer.max_epochs=1", "model.hidden_size=4", "baseline=none"]
    overrides = [*plain, *small, f"paths.cache_dir={tmp_path}/cache"]
    return {"output_dir": tmp_path / "run", "overrides": overrides}


@pytest.mark.parametrize("module", [api, rnn_lab], ids=["api", "rnn_lab"])
def test_the_examples_of_the_documentation(module, path, tmp_path):
    names = {"rnn_lab": rnn_lab, "path": path, "folder": tmp_path}
    tried = doctest.testmod(module, extraglobs=names, raise_on_error=False)
    assert tried.failed == 0 and tried.attempted > 0


def test_every_public_name_has_an_example():
    for name in ("load", "train", "Prediction"):
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
        (None, TypeError, "^texts is not iterable: NoneType$"),
        ({"text": "a film"}, TypeError, "^texts is a table or mapping, dict; give one column"),
        (
            pyarrow.table({"text": ["a film"]}),
            TypeError,
            "^texts is a table or mapping, Table; give",
        ),
        ([b"a film"], TypeError, "text 0 is not a string: bytes"),
        (["a film", "caf\udce9"], DataError, "text 1: contains half a surrogate pair"),
        (["a\0film"], DataError, "text 0: contains a NUL character"),
    ],
)
def test_what_is_not_a_text_is_named_by_its_position(path, texts, error, said):
    with pytest.raises(error, match=said):
        rnn_lab.load(path).predict(texts)


def test_an_empty_text_has_a_prediction_in_a_list_and_no_explanation(path):
    model = rnn_lab.load(path)
    empty, blank, unknown = model.predict(["", "  ", "qwertzxcvb"])
    assert empty == blank and empty.probabilities == pytest.approx(unknown.probabilities)
    for text in ("", " \n"):
        with pytest.raises(DataError, match=r"^text: is empty$"):
            model.explain(text)


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


def test_a_notebook_shows_the_words_in_their_colours(mood_run):
    explanation = rnn_lab.load(mood_run).explain("<b>the</b> music was lovely", label="bad")
    shown = explanation._repr_html_()
    styles = dict(re.findall(r'style="([^"]+)" title="[^"]*"><bdi>([^<]+)</bdi>', shown))
    colours = {word: re.search(r"#\w+", style)[0] for style, word in styles.items()}
    attributions = {word.text: word.attribution for word in explanation.words}
    strongest = max(attributions, key=lambda word: abs(attributions[word]))
    assert strongest == "lovely" and attributions[strongest] < 0
    assert colours["lovely"] == shade(-1).background
    assert "outline" in next(style for style, word in styles.items() if "b&gt;the" in word)
    assert "the prediction is <bdi>good</bdi>" in shown and "<b>the" not in shown
    assert repr(explanation).startswith("<Explanation of 'bad', ") and len(repr(explanation)) < 80


def test_errors_name_the_file_or_the_device(path, tmp_path):
    for wrong in (None, 5, b"runs", [path, None]):
        with pytest.raises(TypeError, match=r"^run_or_file: give a path or a list of paths"):
            rnn_lab.load(wrong)
    with pytest.raises(CheckpointError, match=r"nowhere: no .*, \.safetensors or \.onnx file"):
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


def test_a_model_of_any_number_of_labels_trained_on_lists(tmp_path, capsys):
    words = {"toxic": "stupid", "threat": "hurt"}
    rows = [("toxic",), (), ("threat", "toxic"), ("threat",)] * 30
    texts = [f"a film {' '.join(words[name] for name in row)} {i}" for i, row in enumerate(rows)]
    small = ["model.hidden_size=8", "model.embedding_dim=8", "model.ngrams=2", "optimizer.lr=0.05"]
    quiet = ["logger=none", "trainer=cpu", f"paths.cache_dir={tmp_path}/cache", "model=gru"]
    options = [*quiet, *small, "trainer.max_epochs=4"]
    model = rnn_lab.train(texts, rows, output_dir=tmp_path / "run", overrides=options)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    found = read_predictions(tmp_path / "run")
    assert result["monitored_metric"] == "val/map"
    assert result["data"]["task"] == "multilabel" and found.class_names == ("threat", "toxic")
    assert result["test/accuracy"] == pytest.approx(accuracy_score(found.labels, found.predicted))
    for name, average in (("f1", "macro"), ("f1_micro", "micro")):
        expected = f1_score(found.labels, found.predicted, average=average)
        assert result[f"test/{name}"] == pytest.approx(expected, abs=1e-6)
    expected = average_precision_score(found.labels, found.probabilities)
    assert result["test/map"] == pytest.approx(expected, abs=1e-6)
    thresholds = [result["thresholds"][name] for name in found.class_names]
    assert np.array_equal(found.predicted, found.probabilities >= thresholds)
    both, none = model.predict(["stupid and hurt", "a film"])
    assert both.labels == ("threat", "toxic") and none.labels == ()
    assert {"confusion_matrix.png", "calibration.png"}.isdisjoint(
        path.name for path in (tmp_path / "run" / "plots").iterdir()
    )
    printed = capsys.readouterr().out
    assert "Not drawn, since a text has any number of labels: confusion matrix" in printed
    own = {"run": str(tmp_path / "run"), "cache_dir": str(tmp_path / "cache")}
    evaluate(own | {"output_dir": str(tmp_path / "tested")})
    tested = json.loads((tmp_path / "tested" / "result.json").read_text())
    assert tested["test/map"] == pytest.approx(result["test/map"], abs=1e-6)
    assert tested["thresholds"] == result["thresholds"]
    assert tested["per_class"].keys() == result["per_class"].keys() == set(found.class_names)
    balanced = [*options, "data.class_weights=balanced"]
    with pytest.raises(ConfigError, match=r"data\.class_weights: is for one label a text"):
        rnn_lab.train(texts, rows, output_dir=tmp_path / "balanced", overrides=balanced)
    one_each = {"source": "demo", "num_train": 20, "num_test": 20}
    with pytest.raises(DataError, match=r"have one label each, and the run predicts any number"):
        evaluate(own | {"output_dir": str(tmp_path / "refused"), "data": one_each})
    with pytest.raises(OutputDirConflictError, match=r"a finished run; load it with rnn_lab\.load"):
        rnn_lab.train(texts, rows, output_dir=tmp_path / "run", overrides=options)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data=imdb", "the texts of the run are those that are given"),
        ("hydra.run.dir=x", "is an option of the command"),
        ("model.hidden=3", "^model.hidden: no such option. Did you mean hidden_size"),
        ("modle=lstm", "^modle: no such option. Did you mean model"),
        ("model=lstmm", "^model=lstmm: no such choice. Did you mean lstm"),
        ("experiment=long_range", "needs data.distance: only data=long_range has this option"),
        ("seed", "^seed: options are given as name=value$"),
        ("trainer.monitor=val/none", "impossible value"),
        ("debug=fast_dev_run", "^trainer.fast_dev_run: saves no model to return"),
    ],
)
def test_overrides_of_a_training_are_checked(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        rnn_lab.train(
            ["a", "b", "c", "d"] * 4,
            [0, 1] * 8,
            output_dir=tmp_path / "run",
            overrides=[f"paths.cache_dir={tmp_path}", override],
        )
    assert not (tmp_path / "run").exists()


def test_a_single_string_is_no_list(tmp_path):
    texts, labels = ["a", "b", "c", "d"] * 4, [0, 1] * 8
    with pytest.raises(TypeError, match=r"overrides is a single string; give a .*'model=lstm'"):
        rnn_lab.train(texts, labels, output_dir=tmp_path / "run", overrides="model=lstm")
    for overrides in ([3], None, {"model": "lstm"}):
        with pytest.raises(TypeError, match="overrides: give a list of strings"):
            rnn_lab.train(["a", "b"], ["x", "y"], overrides=overrides)
    with pytest.raises(TypeError, match="train: texts is a single string"):
        rnn_lab.train("abc", [0, 1, 0])
    with pytest.raises(TypeError, match="test: labels is a single string"):
        rnn_lab.train(texts, labels, test=(["a", "b"], "01"))


@pytest.mark.parametrize(
    ("batch_size", "error"),
    [
        *((0, ConfigError), (-1, ConfigError)),
        *((None, TypeError), (1.5, TypeError), ("8", TypeError), (True, TypeError)),
    ],
)
def test_a_batch_size_is_a_positive_integer(path, batch_size, error):
    model = rnn_lab.load(path)
    for method in (model.predict, model.stream):
        with pytest.raises(error, match=rf"^batch_size={batch_size!r}: is not "):
            method(["a film"], batch_size=batch_size)
    assert model.predict(["a film"], batch_size=np.int64(1)) == model.predict(["a film"])


def test_a_label_to_explain_may_be_of_any_type_of_labels(tiny_training):
    model = rnn_lab.train(["a good film", "a bad one"] * 8, [1, 0] * 8, **tiny_training)
    assert model.explain("a good film", label=1).explained == "1"
    assert model.explain("a good film", label=np.int64(0)).explained == "0"
    with pytest.raises(ConfigError, match=r"^label=2: is no class of the run\. Choose from: 0, 1"):
        model.explain("a good film", label=2)
    with pytest.raises(TypeError, match=r"^label: a label cannot be of the type dict$"):
        model.explain("a good film", label={})


def test_inference_mode_of_the_caller_changes_nothing(path, tiny_training):
    expected = rnn_lab.load(path).explain("not good at all")
    with torch.inference_mode():
        model = rnn_lab.load(path)
        inside = model.explain("not good at all")
        model.predict(["a film"])
        rnn_lab.train(["a", "b"] * 8, [0, 1] * 8, **tiny_training).explain("a")
    for explanation in (inside, model.explain("not good at all")):
        np.testing.assert_array_equal(explanation.attributions, expected.attributions)


def test_trainings_in_threads_run_one_after_the_other(tmp_path, tiny_training):
    options = tiny_training | {"device": "cpu"}
    folders = [tmp_path / name for name in ("one", "other")]
    texts, labels = ["a good film", "a bad one"] * 8, [1, 0] * 8
    with ThreadPoolExecutor() as pool:
        models = pool.map(
            lambda folder: rnn_lab.train(texts, labels, **options | {"output_dir": folder}),
            folders,
        )
        first, second = (model.predict(["a good film"]) for model in models)
    assert first == second


def test_a_hydra_program_can_train(tmp_path, tiny_training):
    (tmp_path / "own.yaml").write_text("lr: 0.1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        program = GlobalHydra.instance().hydra
        rnn_lab.train(["a good film", "a bad one"] * 8, [1, 0] * 8, **tiny_training)
        assert GlobalHydra.instance().hydra is program
        assert str(hydra.version.getbase()) == "1.2"
        with pytest.raises(ConfigError, match="no such option"):
            rnn_lab.train(["a", "b"] * 8, [1, 0] * 8, overrides=["modle=gru"])
        assert hydra.compose("own").lr == 0.1


def test_a_refused_training_leaves_the_records_of_the_unfinished_run(tmp_path, tiny_training):
    run, texts, labels = tmp_path / "run", ["a good film", "a bad one"] * 8, [1, 0] * 8
    rnn_lab.train(texts, labels, **tiny_training)
    (run / "result.json").unlink()  # as if it had been killed in its test
    paths = (run / "job.json", run / ".hydra/config.yaml", run / ".hydra/overrides.yaml")
    before = [path.read_bytes() for path in paths]
    tiny_training["overrides"].append("seed=7")
    with pytest.raises(OutputDirConflictError, match=r"seed=1 \(saved\), 7 \(requested\)"):
        rnn_lab.train(texts, labels, **tiny_training)
    assert [path.read_bytes() for path in paths] == before
    rnn_lab.train(texts, labels, **tiny_training | {"overrides": tiny_training["overrides"][:-1]})
    assert (run / "result.json").exists()


def test_the_device_is_checked_before_the_training(path, tmp_path, tiny_training):
    with pytest.raises(ConfigError, match=r"^device=gpu: this machine has none"):
        rnn_lab.train(["a", "b"] * 8, [0, 1] * 8, device="gpu", **tiny_training)
    assert not (tmp_path / "run").exists()
    named, given = (rnn_lab.load(path, device=cpu) for cpu in ("cpu", torch.device("cpu")))
    assert named.predict(["a film"]) == given.predict(["a film"])


def test_overrides_of_a_generator_count(tmp_path, tiny_training):
    overrides = (override for override in tiny_training["overrides"])
    rnn_lab.train(["a", "b"] * 8, [0, 1] * 8, output_dir=tmp_path / "run", overrides=overrides)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["model"]["hidden_size"] == 4


def test_the_default_dtype_of_the_caller_changes_nothing(tiny_training):
    model = rnn_lab.Model(untrained_run(name="gru", ngrams=2))
    expected = model.predict(["a good film"]), model.explain("a good film").about
    torch.set_default_dtype(torch.float64)
    try:
        found = model.predict(["a good film"]), model.explain("a good film").about
        with pytest.raises(
            ConfigError, match=r"^torch\.set_default_dtype: is torch\.float64; a run"
        ):
            rnn_lab.train(["a", "b"] * 8, [0, 1] * 8, **tiny_training)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == expected


def test_an_ensemble_says_how_many_it_has(path):
    assert repr(rnn_lab.load([path, path])).startswith("<rnn_lab.Model ensemble of 2 lstm [neg")
    assert repr(rnn_lab.load(path)).startswith("<rnn_lab.Model lstm [neg")
