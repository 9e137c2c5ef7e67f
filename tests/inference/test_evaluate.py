import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, classification_report, f1_score, roc_auc_score

from rnn_lab.errors import ConfigError, DataError, UserError
from rnn_lab.inference.config import EvaluateOptions
from rnn_lab.inference.evaluate import data_config, evaluate
from rnn_lab.inference.load import load_model

# One in five of these is against its word, so that no metric is exactly 1.
ROWS = [
    *(("an awful film", "bad"), ("the actor was lovely then", "good"), ("passable", "so so")),
    *(("lovely lovely scene", "bad"), ("awful", "bad"), ("music was passable", "good")),
    *(("it ended lovely", "good"), ("a passable awful scene", "so so"), ("the film", "good")),
]


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Other labelled reviews, in a file of another form than the run's."""
    path = tmp_path_factory.mktemp("others") / "others.jsonl"
    lines = (json.dumps({"text": text, "sentiment": label}) for text, label in ROWS)
    path.write_text("\n".join(lines))
    return path


def options(mood_run, tmp_path, **data):
    return {
        "run": str(mood_run),
        "output_dir": str(tmp_path / "tested"),
        "cache_dir": str(tmp_path / "cache"),
        "data": {"source": "files"} | data,
    }


@pytest.fixture(scope="module")
def tested(tmp_path_factory, mood_run, others):
    """The folder of a test on `others`."""
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(options(mood_run, folder, test_path=str(others)))
    return folder / "tested"


def test_other_reviews_have_the_metrics_of_scikit_learn(tested):
    result = json.loads((tested / "result.json").read_text())
    with (tested / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["bad", "good", "so so"]
    labels, predictions = ([row[column] for row in rows] for column in ("label", "prediction"))
    probabilities = np.array(
        [[float(row[f"probability_{name}"]) for name in names] for row in rows]
    )
    assert labels == [label for _, label in ROWS]
    assert [row["name"].rpartition(":")[2] for row in rows] == [
        str(i + 1) for i in range(len(ROWS))
    ]
    assert predictions == [names[i] for i in probabilities.argmax(axis=1)]
    numbers = [names.index(label) for label in labels]
    expected = {
        "accuracy": accuracy_score(labels, predictions),
        "f1": f1_score(labels, predictions, average="macro"),
        "auroc": roc_auc_score(labels, probabilities, multi_class="ovr"),
        "loss": -np.log(probabilities[np.arange(len(ROWS)), numbers]).mean(),
    }
    for name, figure in expected.items():
        assert result[f"test/{name}"] == pytest.approx(figure, abs=1e-5), name
    assert result["data"]["num_examples"]["test"] == len(ROWS)
    report = classification_report(labels, predictions, output_dict=True, zero_division=0)
    with (tested / "per_class.csv").open(newline="") as file:
        table = {row.pop("class"): row for row in csv.DictReader(file)}
    assert list(table) == list(result["per_class"]) == names
    for name in names:
        expected = dict(report[name])
        expected["f1"] = expected.pop("f1-score")
        assert result["per_class"][name] == pytest.approx(expected)
        assert {key: float(cell) for key, cell in table[name].items()} == result["per_class"][name]


def test_a_label_that_the_run_does_not_know(tmp_path, mood_run):
    path = tmp_path / "strange.csv"
    path.write_text("text,label\na lovely film,good\nawful,dreadful\n")
    with pytest.raises(DataError, match=r"dreadful.*bad, good, so so"):
        evaluate(options(mood_run, tmp_path, test_path=str(path)))
    assert not (tmp_path / "tested").exists()


def test_reviews_changed_since_the_run_are_not_its_test_split(tmp_path, mood_run, mood_reviews):
    """A longer file is cut elsewhere: reviews trained on would be tested on."""
    reviews, run = shutil.copy(mood_reviews, tmp_path), tmp_path / "moved.ckpt"
    content = torch.load(mood_run / "checkpoints" / "best.ckpt", weights_only=True)
    content["TextDataModule"]["config"]["train_path"] = str(reviews)
    torch.save(content, run)
    evaluate(options(run, tmp_path) | {"data": None})  # the same ones, in another folder
    shutil.rmtree(tmp_path / "tested")

    with Path(reviews).open("a") as file:
        file.write("one more lovely film,good\n")
    refusal = r"have changed since its training.* data=files data\.test_path="
    with pytest.raises(DataError, match=refusal):
        evaluate(options(run, tmp_path) | {"data": None})
    assert not (tmp_path / "tested").exists()


def test_other_reviews_are_cut_and_batched_as_the_run_did(tmp_path, mood_run):
    run = load_model(str(mood_run))
    wanted = options(mood_run, tmp_path, test_path="x.csv", encoding="latin-1") | {"batch_size": 3}
    config = data_config(run, EvaluateOptions(**wanted))
    assert (config.source, config.test_path, config.train_path) == ("files", "x.csv", None)
    assert config.encoding == "latin-1"
    assert config.max_length == run.data_config.max_length
    assert config.eval_batch_size == 3
    assert config.cache_dir == str(tmp_path / "cache")


def test_class_names_other_than_the_runs_are_refused(tmp_path, mood_run):
    run = load_model(str(mood_run))

    def config(*class_names: str):
        wanted = options(mood_run, tmp_path, test_path="x.csv", class_names=list(class_names))
        return data_config(run, EvaluateOptions(**wanted))

    assert config("bad", "good", "so so").class_names == ["bad", "good", "so so"]
    for names in (("0", "1", "2"), ("good", "bad", "so so"), ("bad", "good")):
        with pytest.raises(ConfigError, match=r"those of the run, in its order: bad, good, so so"):
            config(*names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": None}, "run=<path>"),
        ({"run": "nowhere"}, "nowhere: no such run folder"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"data": {"source": "files", "tset": "x.csv"}}, r"data\.tset: no such option"),
        ({"data": {"source": "files", "test_path": "x.csv"}}, r"x\.csv: no such file"),
        ({"data": {"source": "files"}}, "data=files needs data"),
        (
            {"data": {"source": "demo", "num_train": 20, "num_test": 20}},
            "negative.*bad, good, so so",
        ),
    ],
)
def test_mistake_is_one_line_and_nothing_is_written(tmp_path, mood_run, change, said):
    with pytest.raises(UserError, match=said):
        evaluate(options(mood_run, tmp_path) | change)
    assert not (tmp_path / "tested").exists()


def test_columns_are_those_of_the_training_texts_and_some_classes_keep_their_numbers(
    tmp_path, mood_run
):
    path = tmp_path / "others.csv"
    path.write_text(
        "text,review,label,target\nawful,lovely,good,bad\nlovely,passable,so so,good\n"
        "awful,so lovely,good,bad\n"
    )
    evaluate(options(mood_run, tmp_path, test_path=str(path)) | {"plots": False})
    assert not (tmp_path / "tested" / "plots").exists()
    result = json.loads((tmp_path / "tested" / "result.json").read_text())
    assert result["test/accuracy"] == 1
    assert result["data"]["options"]["text_column"] == ["review"]
    assert result["data"]["options"]["label_column"] == "label"
    with (tmp_path / "tested" / "predictions.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["good", "so so", "good"]


def test_texts_that_were_trained_on_are_counted(tmp_path, mood_run, mood_reviews, others, capsys):
    """Of the run's file, all but those that were held out and are no copies of others."""
    with (mood_run / "predictions.csv").open(newline="") as file:
        tested = {int(row["name"].rpartition(":")[2]) for row in csv.DictReader(file)}
    with mood_reviews.open(newline="", encoding="utf-8") as file:
        texts = dict(enumerate((row["review"] for row in csv.DictReader(file)), start=2))
    untested = {text for line, text in texts.items() if line not in tested}
    most = sum(text in untested for text in texts.values())
    least = json.loads((mood_run / "result.json").read_text())["data"]["num_examples"]["train"]

    evaluate(options(mood_run, tmp_path, test_path=str(mood_reviews)))
    found = json.loads((tmp_path / "tested" / "result.json").read_text())["data"]["num_trained_on"]
    assert least <= found <= most < 400
    line = f"{found} of 400 texts are also among those that the run was trained on, word for word"
    assert line in capsys.readouterr().out.splitlines()

    (mood_run / "train_hashes.npy").write_bytes(b"damaged")
    evaluate(options(mood_run, tmp_path / "2", test_path=str(others)))
    result = json.loads((tmp_path / "2" / "tested" / "result.json").read_text())
    assert result["data"]["num_trained_on"] is None
    line = "Cannot tell whether some of these texts were trained on: no train_hashes.npy in a run "
    assert line in capsys.readouterr().out


def test_the_highest_losses_have_their_texts(tested):
    with (tested / "top_losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tested / "predictions.csv").open(newline="") as file:
        found = {row["name"]: row for row in csv.DictReader(file)}
    assert [row["name"] for row in rows] == sorted(found, key=lambda n: -float(found[n]["loss"]))
    for row in rows:
        line = int(row["name"].rpartition(":")[2])
        assert (row["text"], row["label"]) == ROWS[line - 1]
        assert row["probability"] == found[row["name"]][f"probability_{row['prediction']}"]
    assert rows[0]["label"] != rows[0]["prediction"]
