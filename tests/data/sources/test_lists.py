import csv

import numpy as np
import pytest
import torch

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.sources.lists import (
    ListsConfig,
    corpus_from_lists,
    load_lists,
    store_corpus,
)
from rnn_lab.data.sources.text_files import load_files
from rnn_lab.errors import ConfigError, DataError

TEXTS = [f"text number {i}" for i in range(40)]
LABELS = [("good", "bad", "so so")[i % 3] for i in range(40)]


def test_the_same_corpus_as_of_a_file(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(TEXTS, LABELS, strict=True)])
    config = FilesConfig(train_path=str(tmp_path / "a.csv"), cache_dir=str(tmp_path / "cache"))
    of_file, of_lists = load_files(config), corpus_from_lists(TEXTS, LABELS)
    assert of_lists.class_names == of_file.class_names
    for name in ("train", "test"):
        assert list(of_lists.splits[name].texts) == list(of_file.splits[name].texts)
        assert np.array_equal(of_lists.splits[name].labels, of_file.splits[name].labels)


@pytest.mark.parametrize(
    "labels",
    [
        [i % 2 for i in range(40)],
        np.arange(40) % 2,
        (np.arange(40) % 2).astype(np.float32),
        torch.arange(40) % 2,
        list(torch.arange(40) % 2),
        [str(i % 2) for i in range(40)],
        (i % 2 for i in range(40)),
    ],
    ids=["ints", "int array", "float array", "tensor", "tensors", "strings", "generator"],
)
def test_any_sequence_of_labels(labels):
    corpus = corpus_from_lists(np.array(TEXTS), labels)
    assert corpus.class_names == ("0", "1")
    names = [int(name) for name in corpus.train.names]
    assert corpus.train.labels.tolist() == [name % 2 for name in names]


def test_given_splits_and_classes():
    corpus = corpus_from_lists(
        TEXTS,
        LABELS,
        validation=(["a"], ["bad"]),
        test=(["b", "c"], ["so so", "good"]),
        class_names=["so so", "good", "bad"],
    )
    assert list(corpus.train.texts) == TEXTS
    assert corpus.validation.labels.tolist() == [2]
    assert corpus.test.labels.tolist() == [0, 1]


def test_bad_rows():
    texts, labels = [*TEXTS, " ", None, "x", "y"], [*LABELS, "good", "bad", None, {}]
    with pytest.raises(DataError, match=r"^lists, train: row 40: empty text"):
        corpus_from_lists(texts, labels)
    corpus = corpus_from_lists(texts, labels, on_bad_lines="skip")
    assert corpus.skipped == [
        "lists, train 40: empty text",
        "lists, train 41: a text is a NoneType and not a string",
        "lists, train 42: missing label '' (if it is a class, list all classes in class_names)",
        "lists, train 43: a label cannot be of the type dict",
    ]
    assert len(corpus.train) + len(corpus.test) == 40


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (TEXTS, LABELS[1:], "40 texts and 39 labels"),
        (TEXTS, ["good"] * 40, "one class only, 'good'"),
        (TEXTS, range(40), "40 different labels in 40 rows: they are ids or continuous values"),
        ([], [], "has no usable rows"),
        (["a", "b"], [0, 1], "each of the 2 rows is the only one"),
    ],
)
def test_what_cannot_be_a_corpus(texts, labels, message):
    with pytest.raises(DataError, match=message):
        corpus_from_lists(texts, labels)


def test_any_number_of_labels():
    lists = [["a", "b"], [], ["b"], ["a"]] * 10
    matrix = np.array([[1, 1], [0, 0], [0, 1], [1, 0]] * 10)
    expected = corpus_from_lists(TEXTS, lists)
    assert expected.task == "multilabel" and expected.class_names == ("a", "b")
    frame = type("Frame", (), {"columns": ["a", "b"], "to_numpy": lambda self: matrix})()
    for labels, options in (
        ([set(labels) for labels in lists], {}),
        (matrix, {"class_names": ["a", "b"]}),
        (frame, {}),
    ):
        corpus = corpus_from_lists(TEXTS, labels, **options)
        assert corpus.class_names == ("a", "b")
        assert np.array_equal(corpus.train.labels, expected.train.labels)
        assert np.array_equal(corpus.test.labels, expected.test.labels)
    with pytest.raises(DataError, match="needs class_names with a name for each column"):
        corpus_from_lists(TEXTS, matrix)
    with pytest.raises(DataError, match="0 where lists of labels are expected"):
        corpus_from_lists(TEXTS, matrix.tolist())
    with pytest.raises(DataError, match=r"row 0: 'a' is '2' and neither 0 nor 1"):
        corpus_from_lists(TEXTS, matrix + 1, class_names=["a", "b"])


def test_a_stored_corpus_is_the_same(tmp_path):
    corpus = corpus_from_lists(TEXTS, LABELS, validation=(["a", "b"], ["good", "bad"]))
    folder = store_corpus(corpus, tmp_path)
    found = load_lists(ListsConfig(corpus=str(folder)))
    assert found.fingerprint == corpus.fingerprint
    for name, split in corpus.splits.items():
        assert list(found.splits[name].texts) == list(split.texts)
        assert np.array_equal(found.splits[name].labels, split.labels)
    assert store_corpus(corpus, tmp_path) == folder
    with pytest.raises(DataError, match="no longer; give them again"):
        load_lists(ListsConfig(corpus=str(tmp_path / "elsewhere")))
    with pytest.raises(DataError, match=r"call rnn_lab\.train"):
        load_lists(ListsConfig())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": None}, TypeError, "lists, train: texts is not iterable: NoneType$"),
        (
            {"texts": {"text": TEXTS}},
            TypeError,
            "lists, train: texts is a table or mapping, dict; give",
        ),
        ({"labels": 3}, TypeError, "lists, train: labels is not iterable: int$"),
        ({"validation": TEXTS}, TypeError, r"validation: give a pair of .*: \(texts, labels\)$"),
        ({"test": (TEXTS, LABELS, 1)}, TypeError, r"test: give a pair of .*: \(texts, labels\)$"),
        ({"class_names": "np"}, TypeError, "class_names is a single string"),
        (
            {"on_bad_lines": "skp"},
            ConfigError,
            r"on_bad_lines='skp': no such choice\. Did you mean skip\? Choose from: error, skip$",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_named(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        corpus_from_lists(**{"texts": TEXTS, "labels": LABELS} | arguments)
