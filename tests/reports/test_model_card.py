"""The model card of an exported file: everything from result.json, which may be damaged."""

import json
import re
from dataclasses import replace

import pytest

from rnn_lab.commands import export
from rnn_lab.reports.model_card import MARK, ExportedFile, model_card
from rnn_lab.runs.result_json import read_result

FILE = ExportedFile(
    name="model.onnx",
    num_bytes=1234,
    sha256="ab" * 32,
    cell="gru",
    class_names=("bad", "good"),
    temperature=1.0,
    thresholds=None,
    tokenizer="basic_english",
    vocab_size=30,
    max_length=400,
    truncation_side="left",
    compared="compared with the run on 3 texts",
)
RESULT = {
    "run_name": "gru-films-seed1",
    "seed": 1,
    "best_epoch": 2,
    "synthetic": False,
    "val/accuracy": 0.75,
    "test/accuracy": 0.8125,
    "test/f1": 0.5,
    "test/calibration_error": 0.041,
    "model": {"name": "gru", "bidirectional": True, "hidden_size": 16, "parameters": 12345},
    "data": {
        "name": "films",
        "num_examples": {"train": 1000, "test": 100},
        "texts": {"train": {"median_length": 9.5, "max_length": 70, "unknown": 0.01}},
        "duplicates": {"exact": {"test_in_train": {"examples": 3}}},
        "options": {"split_seed": 7},
        "num_skipped": 2,
    },
    "baseline": {"tfidf": {"test/accuracy": 0.8, "test/f1": 0.6}, "majority": {}},
    "per_class": {"bad": {"precision": 0.1, "recall": 0.2, "f1": 0.3, "support": 40}},
    "versions": {"torch": "2.13.0"},
    "overrides": ["data.train_path=/home/someone/films.csv"],
}


def rows(card: str) -> list[list[str]]:
    """The cells of all rows of all tables; each table has as many in each row."""
    found, width = [], 0
    for line in card.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        width = width or len(cells)
        assert len(cells) == width, line
        found.append(cells)
    return found


def test_it_has_the_data_metrics_baseline_seeds_versions_and_limits():
    card = model_card(FILE, RESULT)
    assert card.startswith(f"{MARK}\n# model.onnx: a text classifier (bidirectional GRU)\n")
    for row in (
        ["classes", "bad, good"],
        ["parameters", "12,345"],
        ["file", f"1,234 bytes, SHA-256 `{'ab' * 32}`"],
        ["checked", "compared with the run on 3 texts"],
        ["train", "1,000", "9.5", "70", "1.0 %", ""],
        ["split", "metric", "this model", "TF-IDF with logistic regression"],
        ["validation", "accuracy", "75.00 %", ""],
        ["test", "accuracy", "81.25 %", "80.00 %"],
        ["test", "F1 (macro)", "50.00 %", "60.00 %"],
        ["bad", "10.0 %", "20.0 %", "30.0 %", "40"],
        ["seed", "`1`"],
        ["seed of the split", "`7`"],
        ["version of torch", "`2.13.0`"],
    ):
        assert row in rows(card)
    for limit in (
        "has a better test F1 (macro): prefer it",
        "3 texts of the test split also occur among the training texts",
        "more than 400 tokens, the start is cut off",
        "Its probabilities are off by 4.1 % on average",
    ):
        assert limit in card
    assert "synthetic" not in card and "no test split" not in card
    assert "2 rows of the files could not be used" in card
    assert "/home/someone" not in card  # the author's machine is nobody's business
    assert (
        "rnn-lab predict run=model.onnx text=" in card
        and "<clone or wheel of rnn-lab>[onnx]" in card
    )


def test_it_has_the_calibration_error_with_and_without_the_temperature():
    calibration = {"temperature": 1.618, "uncalibrated": {"test/calibration_error": 0.123}}
    result = RESULT | {"calibration": calibration}
    card = model_card(replace(FILE, temperature=1.618), result)
    assert "off by 4.1 % on average" in card and "12.3 % without calibration" in card
    assert "calibrated with a temperature of 1.62" in card
    card = model_card(FILE, RESULT | {"calibration": {"temperature": 1.0, "uncalibrated": []}})
    assert "without calibration" not in card and "temperature" not in card


def test_the_best_of_the_baselines_that_are_better_is_named():
    scores = {"test/accuracy": 0.9, "test/f1": 0.4}
    card = model_card(FILE, RESULT | {"baseline": RESULT["baseline"] | {"majority": scores}})
    assert "most frequent class has a better test accuracy: prefer it" in card
    assert "TF-IDF with logistic regression has a better test F1 (macro): prefer it" in card
    equal = {"test/accuracy": 0.81250001, "test/f1": 0.5}
    assert "prefer it" not in model_card(FILE, RESULT | {"baseline": {"nbsvm": equal}})


def test_of_several_labels_it_has_the_thresholds():
    file = replace(FILE, thresholds=(0.25, 0.5), truncation_side="right")
    data = RESULT["data"] | {"task": "multilabel"}
    card = model_card(file, RESULT | {"thresholds": {"bad": 0.25, "good": 0.5}, "data": data})
    assert "of validation are at a threshold of 0.5; those of test are at the thresholds" in card
    assert ["bad", "25.0 %", "10.0 %", "20.0 %", "30.0 %", "40"] in rows(card)
    assert "any number of 2 labels" in card and "the end is cut off" in card
    assert "the middle is cut off" in model_card(replace(FILE, truncation_side="middle"), RESULT)


def test_without_a_result_it_says_what_is_unknown():
    card = model_card(replace(FILE, name="model.safetensors", compared=None), None)
    rows(card)
    for section in ("## Data\n\nUnknown", "## Metrics\n\nUnknown", "## Origin\n\nUnknown"):
        assert section in card
    assert "checked" not in card and "[onnx]" not in card
    assert "tokens, the start is cut off" in card


def test_it_has_the_terms_of_the_texts_or_asks_for_them():
    unknown = "The licence of these texts is not known to the run"
    assert unknown in model_card(FILE, RESULT)
    for terms in (None, "", ["mine"]):
        assert unknown in model_card(FILE, RESULT | {"data": RESULT["data"] | {"terms": terms}})
    card = model_card(FILE, RESULT | {"data": RESULT["data"] | {"terms": "Of *them*, CC BY 4.0"}})
    assert r"Of \*them\*, CC BY 4.0" in card and unknown not in card
    assert unknown not in model_card(FILE, RESULT | {"synthetic": True})


def test_runs_of_synthetic_texts_and_without_a_test_split_say_so():
    result = {k: v for k, v in RESULT.items() if not k.startswith("test/")} | {"synthetic": True}
    card = model_card(FILE, result)
    assert "(synthetic: no one wrote these texts)" in card
    assert "Its training texts are synthetic" in card
    assert "There is no test split" in card


@pytest.mark.parametrize("value", [None, 3, "x", [1], {"a": {"b": 1}}, float("nan"), True])
@pytest.mark.parametrize("key", RESULT)
def test_a_value_of_another_type_is_left_blank(key, value):
    rows(model_card(FILE, RESULT | {key: value}))
    for inner in RESULT["data"]:
        rows(model_card(FILE, RESULT | {"data": RESULT["data"] | {inner: value}}))


def test_names_are_shown_as_they_are_and_add_no_markup():
    name = "a|b\n# <img src=x> `c` [d](http://e) *f*"
    file = replace(FILE, class_names=(name, "good"), tokenizer=name)
    result = RESULT | {"per_class": {name: {}}, "versions": {name: name}, "run_name": name}
    card = model_card(file, result)
    rows(card)
    without_code = re.sub(r"(?<!\\)`[^`\n]*`", "", card.removeprefix(MARK))
    assert not re.search(r"(?<!\\)<img|(?<!\\)\[d|^# <", without_code, re.MULTILINE)
    assert r"a\|b\\n# \<img src=x\> \`c\` \[d\](http://e) \*f\*" in card


def test_a_class_name_with_a_comma_is_one():
    card = model_card(replace(FILE, class_names=("late, lost", "good")), RESULT)
    assert ["classes", "“late, lost”, good"] in rows(card)


def test_every_exported_file_has_one_and_no_other_file_is_replaced(mood_run, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    card = tmp_path / "model.safetensors.md"
    for _ in range(2):
        export([f"run={mood_run}", f"output={path}"])
        assert capsys.readouterr().out == f"exported to {path}\nmodel card: {card}\n"
    result = read_result(mood_run)
    assert f"| seed | `{result['seed']}` |" in card.read_text()
    assert json.dumps(result["run_name"])[1:-1] in card.read_text()
    card.write_text("# My own notes\n")
    path.unlink()
    with pytest.raises(SystemExit):
        export([f"run={mood_run}", f"output={path}"])
    assert f"the model card would replace {card}, which no export wrote" in capsys.readouterr().err
    assert not path.exists() and card.read_text() == "# My own notes\n"
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(SystemExit):
        export([f"run={mood_run}", f"output={tmp_path / 'folder.onnx'}"])
    assert "is a folder; add a file name" in capsys.readouterr().err
