import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

import rnn_lab
from rnn_lab import inference
from rnn_lab.data.readers.records import Record
from rnn_lab.data.vocabulary import SPECIALS, WordTokenizer
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.inference.batch_predict import classify, predict_rows
from rnn_lab.inference.config import ExplainOptions, ExportOptions
from rnn_lab.inference.ensemble import Ensemble
from rnn_lab.inference.evaluate import combine_results, evaluate
from rnn_lab.inference.load import load_model
from rnn_lab.runs.jobs import list_runs
from rnn_lab.runs.run_folder import find_checkpoint
from rnn_lab.validation import validate
from tests.cli.forked import run_warm_command
from tests.inference.untrained import WORDS, untrained_run

TEXTS = ["good film", "not bad at all .", "", "the film was not good", "unknown words"]


@pytest.fixture(scope="module")
def other_run(mood_reviews, tmp_path_factory):
    """A run on the texts of mood_run with another cell, vocabulary and split."""
    cwd = tmp_path_factory.mktemp("other_mood")
    done = run_warm_command(
        "train.py",
        *("data=files", f"data.train_path={mood_reviews}", "model=lstm", "logger=none"),
        *("model.hidden_size=12", "model.embedding_dim=8", "optimizer.lr=0.03", "seed=2"),
        *("trainer=cpu", "trainer.max_epochs=2", "data.max_vocab_size=12", "data.split_seed=3"),
        *("plots=false", "hydra.run.dir=run"),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return cwd / "run"


def members():
    return [
        untrained_run(),
        untrained_run(hidden_size=7, pooling="max"),
        untrained_run(
            vocabulary=WordTokenizer([*SPECIALS, *reversed(WORDS)]), max_length=3, name="gru"
        ),
    ]


def test_the_probabilities_are_the_mean_of_those_of_all():
    models = members()
    ensemble = Ensemble(models)
    rows = [Record(i, text, None) for i, text in enumerate(TEXTS)]
    found = np.stack([row.probabilities for row in predict_rows(ensemble, rows, 2)])
    alone = [classify(m, [m.text_encoder.encode(text) for text in TEXTS], 4) for m in models]
    np.testing.assert_allclose(found, np.mean(alone, axis=0), rtol=1e-5)
    assert np.ptp(alone, axis=0).max() > 0.01  # they differ
    assert ensemble.cell == "lstm + gru"


def test_a_label_has_the_mean_threshold():
    labels = {"task": "multilabel", "class_names": ("a", "b", "c")}
    models = [untrained_run(**labels), untrained_run(**labels, hidden_size=4)]
    for model, thresholds in zip(models, ([0.2, 0.5, 0.9], [0.4, 0.5, 0.1]), strict=True):
        model.model.thresholds[:] = model.model.thresholds.new_tensor(thresholds)
    ensemble = Ensemble(models)
    np.testing.assert_allclose(ensemble.thresholds, [0.3, 0.5, 0.5])
    assert ensemble.predicted(np.array([0.35, 0.49, 0.51])) == ("a", "c")


def test_other_classes_are_refused():
    with pytest.raises(ConfigError, match=r"their classes have another order"):
        Ensemble([untrained_run(), untrained_run(class_names=("pos", "neg"))])
    with pytest.raises(ConfigError, match=r"differ; only one of them has neg / mixed$"):
        Ensemble([untrained_run(), untrained_run(class_names=("mixed", "pos"))])
    with pytest.raises(ConfigError, match=r"one label a text, the other any number of labels"):
        Ensemble([untrained_run(), untrained_run(task="multilabel")])


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_metrics_are_those_of_scikit_learn(task):
    rng = np.random.default_rng(0)
    names = ("a", "b", "c")
    ensemble = Ensemble([untrained_run(task=task, class_names=names)] * 2)
    raw = rng.random((2, 40, 3))
    given = raw if task == "multilabel" else raw / raw.sum(2, keepdims=True)
    labels = rng.integers(0, 2, (40, 3)) if task == "multilabel" else rng.integers(0, 3, 40)
    results = [
        inference.evaluate.TestResult({}, one.astype(np.float32), np.empty(0), {}) for one in given
    ]
    found = combine_results(ensemble, results, labels)
    mean = given.mean(axis=0)
    if task == "multilabel":
        accuracy = accuracy_score(labels, mean >= 0.5)
        loss = np.mean([log_loss(labels[:, i], mean[:, i], labels=[0, 1]) for i in range(3)])
    else:
        accuracy, loss = accuracy_score(labels, mean.argmax(1)), log_loss(labels, mean)
    assert found.metrics["test/accuracy"] == pytest.approx(accuracy)
    assert found.metrics["test/loss"] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(found.probabilities, mean, rtol=1e-5)


def test_the_folder_of_a_sweep_is_the_ensemble_of_its_runs(tmp_path, mood_run):
    runs = [tmp_path / "sweep" / name for name in ("seed1", "seed2")]
    for run in runs:
        shutil.copytree(mood_run, run)
    with pytest.raises(CheckpointError, match="no finished run"):  # any folder of runs
        rnn_lab.load(tmp_path / "sweep")
    (tmp_path / "sweep" / "multirun.yaml").touch()
    assert list_runs(tmp_path / "sweep") == [str(run) for run in runs]
    assert list_runs([mood_run, runs[0]]) == [str(mood_run), str(runs[0])]
    (runs[1] / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"seed2: unfinished; .* needs all of its runs"):
        list_runs(str(tmp_path / "sweep"))


@pytest.mark.parametrize("run", ["", [], ["", "x"]])
def test_no_run_is_no_ensemble(run):
    with pytest.raises(ConfigError, match="run: give the folder or file of a finished run"):
        rnn_lab.load(run)


@pytest.mark.parametrize(
    ("schema", "options"), [(ExplainOptions, {"text": "a"}), (ExportOptions, {})]
)
def test_commands_of_a_single_run_say_so(tmp_path, schema, options):
    with pytest.raises(ConfigError, match="give one run"):
        validate(schema, {"run": "[a,b]"} | options)
    (tmp_path / "multirun.yaml").touch()
    with pytest.raises(CheckpointError, match="the folder of a sweep; name one of its runs"):
        find_checkpoint(tmp_path)


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    """Runs on the columns title and body of a table, tested by files of two opinions."""
    cwd = tmp_path_factory.mktemp("columns")
    words = {"pos": ("lovely", "fine"), "neg": ("awful", "poor")}
    rows = [
        (f"{words[label][i % 2]} {i}", f"{label} {i}", label) for i in range(40) for label in words
    ]
    other = {"pos": "neg", "neg": "pos"}
    for name, of, labels in (("train", "train", {}), ("one", "test", {}), ("two", "test", other)):
        lines = (f"{of} {title},{body},{labels.get(label, label)}" for title, body, label in rows)
        (cwd / f"{name}.csv").write_text("\n".join(["title,body,label", *lines]))
    for run, column, test in (("a", "title", "one"), ("b", "title", "two"), ("c", "body", "one")):
        done = run_warm_command(
            "train.py",
            *("data=files", "data.train_path=train.csv", f"data.test_path={test}.csv"),
            *(f"data.text_column={column}", "logger=none", "plots=false", "trainer=cpu"),
            *("model.hidden_size=4", "model.embedding_dim=4", "trainer.max_epochs=1"),
            f"hydra.run.dir={run}",
            cwd=cwd,
        )
        assert done.returncode == 0, done.stderr
    return cwd


def test_runs_that_were_trained_on_other_columns_ask_for_one(columns):
    both = "run=[a,c]", "input=one.csv", "output=labelled.csv"
    done = run_warm_command("predict.py", *both, cwd=columns)
    assert done.returncode == 1
    assert "texts of different columns, body / title; give text_column=<name>" in done.stderr
    done = run_warm_command("predict.py", *both, "text_column=title", cwd=columns)
    assert done.returncode == 0, done.stderr
    assert "The mean of 2 runs" in done.stderr
    test = "data=files", "data.test_path=one.csv", "output_dir=tested"
    done = run_warm_command("eval.py", "run=[a,c]", *test, cwd=columns)
    assert (done.returncode, "give data.text_column=<name>" in done.stderr) == (1, True)


def test_texts_with_other_labels_are_refused(columns):
    done = run_warm_command("eval.py", "run=[a,b]", "output_dir=tested", cwd=columns)
    assert done.returncode == 1
    assert "are the same, and their labels differ" in done.stderr


def test_python_predicts_with_several_runs(mood_run, other_run):
    texts = ["a lovely film", "an awful film then"]
    model = rnn_lab.load([mood_run, other_run])
    alone = [rnn_lab.load(run).predict(texts) for run in (mood_run, other_run)]
    for found, *each in zip(model.predict(texts), *alone, strict=True):
        for name, probability in found.probabilities.items():
            mean = np.mean([one.probabilities[name] for one in each])
            assert probability == pytest.approx(mean, rel=1e-5)
    with pytest.raises(ConfigError, match="an ensemble only predicts"):
        model.explain(texts[0])


def test_predict_labels_a_file_with_several_runs(tmp_path, mood_run, other_run):
    (tmp_path / "new.txt").write_text("a lovely film\nan awful film\n")
    options = f"run=[{mood_run},{other_run}]", "input=new.txt"
    done = run_warm_command("predict.py", *options, "output=out.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = rnn_lab.load([mood_run, other_run]).predict(["a lovely film", "an awful film"])
    for row, prediction in zip(rows, expected, strict=True):
        assert row["label"] == prediction.label
        assert row["probabilities"] == pytest.approx(prediction.probabilities, rel=1e-5)


def evaluation(tmp_path, runs, data=None):
    return {
        "run": [str(run) for run in runs],
        "output_dir": str(tmp_path / "tested"),
        "cache_dir": str(tmp_path / "cache"),
        "data": data,
    }


def test_runs_with_another_test_split_are_tested_on_texts_that_are_named(
    tmp_path, mood_run, other_run
):
    with pytest.raises(ConfigError, match="have different test splits"):
        evaluate(evaluation(tmp_path, [mood_run, other_run]))
    texts = ["a lovely film", "an awful film", "lovely then", "a passable scene"]
    labels = ["good", "bad", "bad", "so so"]
    path = tmp_path / "others.csv"
    rows = "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True))
    path.write_text("text,label\n" + rows)
    runs = [mood_run, other_run]
    evaluate(evaluation(tmp_path, runs, {"source": "files", "test_path": str(path)}))
    result = json.loads((tmp_path / "tested" / "result.json").read_text())
    found = rnn_lab.load(runs).predict(texts)
    assert result["test/accuracy"] == pytest.approx(
        accuracy_score(labels, [prediction.label for prediction in found])
    )
    assert [one["checkpoint"] for one in result["members"]] == [
        str(load_model(run).path) for run in runs
    ]
    assert result["model"]["name"] == "gru + lstm" and "hidden_size" not in result["model"]


def test_an_ensemble_of_equal_runs_is_that_run(tmp_path, mood_run, capsys):
    evaluate(evaluation(tmp_path, [mood_run, mood_run]))
    result = json.loads((tmp_path / "tested" / "result.json").read_text())
    own = json.loads((mood_run / "result.json").read_text())
    for metric in ("test/accuracy", "test/f1", "test/auroc"):
        assert result[metric] == pytest.approx(own[metric])
    assert result["test/loss"] == pytest.approx(own["test/loss"], rel=1e-4)
    assert "The mean of 2 runs, whose accuracies are" in capsys.readouterr().out
