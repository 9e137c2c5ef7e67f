import dataclasses
import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.duplicates import count_duplicates, split_hashes
from rnn_lab.errors import DataError
from tests.data.made import make_corpus, make_split
from tests.data.torchtext_answers import basic_english_of_torchtext

# Few texts, so that they repeat: some have equal texts, some only equal tokens.
TEXTS = ["good", "Good", "good ", "good.", "good .", "bad", "bad film", '"bad" film', ":", ";", "ß"]
REVIEWS = st.lists(st.tuples(st.sampled_from(TEXTS), st.integers(0, 2)), min_size=1, max_size=12)


def by_plain_python(splits: dict[str, list[tuple[object, int]]]) -> dict[str, dict[str, int]]:
    """Compute every count by comparing each text with every other."""
    counts = {}
    for name, reviews in splits.items():
        times = Counter(text for text, _ in reviews)
        labels = {text: {label for other, label in reviews if other == text} for text in times}
        counts[name] = {
            "examples": sum(n - 1 for n in times.values()),
            "label_conflicts": sum(n - 1 for text, n in times.items() if len(labels[text]) > 1),
        }
    names = list(splits)
    for i, first in enumerate(names):
        for later in names[i + 1 :]:
            labels_in_first = [
                [label for other, label in splits[first] if other == text]
                for text, _ in splits[later]
            ]
            counts[f"{later}_in_{first}"] = {
                "examples": sum(map(bool, labels_in_first)),
                "label_conflicts": sum(
                    any(m != label for m in labels)
                    for labels, (_, label) in zip(labels_in_first, splits[later], strict=True)
                ),
            }
    return counts


@settings(max_examples=40, deadline=None)
@given(train=REVIEWS, held_out=st.lists(st.integers(0, 11)), validation=REVIEWS, test=REVIEWS)
def test_counts_equal_those_of_plain_python(train, held_out, validation, test):
    texts, labels = zip(*train, strict=True)
    test_texts, test_labels = zip(*test, strict=True)
    corpus = make_corpus(texts, test_texts)
    corpus = dataclasses.replace(
        corpus,
        train=make_split(texts, labels),
        test=make_split(test_texts, test_labels),
        fingerprint=json.dumps([train, test, validation]).encode().hex()[-20:],
    )
    rows = np.arange(len(train))
    validation_rows = np.intersect1d(rows, np.array(held_out, np.int64))
    train_rows = np.setdiff1d(rows, validation_rows)
    if not len(validation_rows):
        corpus = dataclasses.replace(
            corpus, validation=make_split(*map(list, zip(*validation, strict=True)))
        )
    splits = {
        "train": [train[row] for row in train_rows],
        "validation": [train[row] for row in validation_rows] or validation,
        "test": test,
    }
    splits = {name: reviews for name, reviews in splits.items() if reviews}
    with TemporaryDirectory() as cache:
        counts = count_duplicates(split_hashes(corpus, Path(cache), train_rows, validation_rows))
    assert counts["exact"] == by_plain_python(splits)
    assert counts["by_token"] == by_plain_python(
        {
            name: [(tuple(basic_english_of_torchtext(text)), label) for text, label in reviews]
            for name, reviews in splits.items()
        }
    )


def write_csv(path: Path, reviews: list[tuple[str, str]]) -> str:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in reviews))
    return str(path)


@pytest.fixture
def files(tmp_path):
    """Two training texts also occur in validation and three in test, one with another label."""
    train = [(f"training {i}", "ab"[i % 2]) for i in range(20)]
    given = {
        "train": train,
        "validation": [*train[:1], ("Training 3!".replace("!", ":"), "b"), ("only here", "a")],
        "test": [*train[3:5], ("training 10", "b"), ("nowhere else", "a")],
    }
    return FilesConfig(
        cache_dir=str(tmp_path / "cache"),
        **{
            f"{'val' if name == 'validation' else name}_path": write_csv(
                tmp_path / f"{name}.csv", rows
            )
            for name, rows in given.items()
        },
    )


def set_up(config: FilesConfig) -> TextDataModule:
    data = TextDataModule(config)
    data.setup()
    return data


@pytest.mark.parametrize("tokenizer", ["basic_english", "bpe"])
def test_the_data_module_counts_duplicates(files, tokenizer):
    duplicates = set_up(files.model_copy(update={"tokenizer": tokenizer})).duplicates
    assert duplicates["exact"] == {
        "train": {"examples": 0, "label_conflicts": 0},
        "validation": {"examples": 0, "label_conflicts": 0},
        "test": {"examples": 0, "label_conflicts": 0},
        "validation_in_train": {"examples": 1, "label_conflicts": 0},
        "test_in_train": {"examples": 3, "label_conflicts": 1},
        "test_in_validation": {"examples": 0, "label_conflicts": 0},
    }
    assert duplicates["by_token"]["validation_in_train"] == {"examples": 2, "label_conflicts": 0}
    assert duplicates["by_token"]["test_in_validation"] == {"examples": 1, "label_conflicts": 0}


def test_drop_duplicates_removes_leaked_texts_from_training(files):
    kept, dropped = set_up(files), set_up(files.model_copy(update={"drop_duplicates": True}))
    sizes = {name: len(split) for name, split in kept.splits.items()}
    assert sizes == {"train": 20, "validation": 3, "test": 4}
    assert {name: len(split) for name, split in dropped.splits.items()} == sizes | {"train": 16}
    for counts in dropped.duplicates.values():
        assert counts["test_in_train"]["examples"] == counts["validation_in_train"]["examples"] == 0
    # Their words are dropped too: "0", "3", "4" and "10" occur in no other training text.
    words = set(kept.text_encoder.vocabulary.state()) - set(dropped.text_encoder.vocabulary.state())
    assert words == {"0", "3", "4", "10"}


def test_a_training_split_of_leaked_texts_only_is_an_error(tmp_path, files):
    config = files.model_copy(update={"test_path": files.train_path, "drop_duplicates": True})
    with pytest.raises(DataError, match=r"data\.drop_duplicates=true none is left"):
        set_up(config)


def test_a_second_start_reads_no_text(tmp_path):
    corpus = make_corpus(["one", "one", "two"], ["two", "three"])
    rows = np.arange(3), np.arange(0)
    first = count_duplicates(split_hashes(corpus, tmp_path, *rows))
    assert first["exact"]["test_in_train"]["examples"] == 1
    textless = [dataclasses.replace(split, texts=()) for split in corpus.splits.values()]
    corpus = dataclasses.replace(corpus, train=textless[0], test=textless[1])
    assert count_duplicates(split_hashes(corpus, tmp_path, *rows)) == first


def test_another_set_of_labels_is_a_conflict(tmp_path):
    labels = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], dtype=np.uint8)
    train = Split(texts=["a", "a", "a", "b"], labels=labels)
    test = Split(texts=["b", "b", "c", "d"], labels=labels[[3, 0, 0, 0]])
    corpus = Corpus("made", ("x", "y"), train, train, test)
    hashes = split_hashes(corpus, tmp_path, np.arange(4), np.arange(0))
    found = count_duplicates(hashes)["exact"]
    assert found["train"] == {"examples": 2, "label_conflicts": 2}
    assert found["test_in_train"] == {"examples": 2, "label_conflicts": 1}
