"""Unlabelled texts that a teacher labels: which of them train, and as what."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.datamodule import RunEncoding, TextDataModule
from rnn_lab.data.encode import EncodedTexts
from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.data.vocabulary import SPECIALS, WordTokenizer
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import validate
from tests.training.small_trainer import OPTIONS

# Its words "sure" and "hardly" decide.
# basic_english cuts the quotation mark into no token.
MORE = ["sure good a", "hardly good b", "sure bad zebra", '"', "sure bad c", "hardly bad d"]
_WORDS = WordTokenizer([*SPECIALS, "good", "bad", "sure", "hardly"])


class Reader:
    """A teacher that reads "good" or "bad" in a text, and is sure where it has the word "sure"."""

    def __init__(self, class_names: tuple[str, ...] = ("good", "bad")) -> None:
        self.class_names, self.asked = class_names, 0

    @property
    def key(self) -> dict[str, Any]:
        return {"classes": self.class_names}

    def probabilities(self, encode: Callable[[Tokenizer], EncodedTexts]) -> np.ndarray:
        self.asked += 1
        texts = encode(_WORDS)
        found = np.zeros((len(texts), 2), np.float32)
        for row in range(len(texts)):
            if len(ids := set(texts[row].tolist())):
                likely = self.class_names.index("good" if 2 in ids else "bad")
                found[row] = 0.1 if 4 in ids else 0.4
                found[row, likely] = 0.9 if 4 in ids else 0.6
        return found


@pytest.fixture
def load(tmp_path: Path):
    rows = [f"word{i % 7} {'great' if i % 2 else 'dull'} {i},{'good' if i % 2 else 'bad'}"
            for i in range(90)]  # fmt: skip
    (tmp_path / "mine.csv").write_text("text,label\n" + "\n".join(rows))

    def load_data(texts: list[str], teacher: Any, **options: Any) -> TextDataModule:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        file = tmp_path / "more.jsonl"
        if not file.exists() or file.read_text() != lines:
            file.write_text(lines)
        config = FilesConfig(
            train_path=str(tmp_path / "mine.csv"),
            teacher=str(tmp_path / "run"),
            cache_dir=str(tmp_path / "cache"),
            batch_size=8,
            **{"unlabelled": str(file)} | options,
        )
        data = TextDataModule(config, teacher=teacher)
        data.setup()
        return data

    return load_data


@pytest.mark.parametrize("order", [("good", "bad"), ("bad", "good")])
def test_sure_texts_train_beside_the_labelled_ones(load, order):
    data = load(MORE, Reader(order))
    found = data.pseudo_labelled
    assert found.rows.tolist() == [0, 2, 4]
    assert [data.class_names[label] for label in found.split.labels] == ["good", "bad", "bad"]
    expected = data.text_encoder.encode_all([MORE[row] for row in found.rows])
    assert "zebra" in data.text_encoder.vocabulary.tokens  # the vocabulary has their words
    for row, ids in enumerate(expected):
        np.testing.assert_array_equal(found.split[row], ids)

    labelled = len(data.splits["train"])
    split = data.training_split
    assert len(split) == labelled + 3
    seen = {}
    for batch in data.train_dataloader():
        for row, label, tokens, length in zip(*map(list, (
            batch.indices.tolist(), batch.labels.tolist(), batch.tokens, batch.lengths
        )), strict=True):  # fmt: skip
            seen[row] = label, tokens[:length].tolist()
    assert sorted(seen) == list(range(labelled + 3))
    for place, ids in enumerate(expected):
        label, tokens = seen[labelled + place]
        assert (label, tokens) == (found.split.labels[place], ids.tolist())
    names = data.training_texts([labelled + 2, 0, labelled])
    assert names[0] == ("more.jsonl:5", "sure bad c")
    assert names[1][1].startswith("word") and names[2] == ("more.jsonl:1", "sure good a")
    assert len(data.texts_of("train")[0]) == len(data.texts_of("train")[1]) == labelled
    # Validation and test have none of them.
    for name in ("validation", "test"):
        rows = [row for b in data.dataloader_for(name) for row in b.indices.tolist()]
        assert sorted(rows) == list(range(len(data.splits[name])))


def test_a_labelled_text_is_named_by_its_file_and_line(load, tmp_path):
    """Blank lines, other files and held-out texts before it do not change where it is."""
    held_out = load(MORE, None).corpus.test.texts[0]
    (tmp_path / "first.txt").write_text("hardly good x\n\nsure good first\n")
    (tmp_path / "then.txt").write_text(f"{held_out}\n\n\nsure bad then\n")
    files = [str(tmp_path / "first.txt"), str(tmp_path / "then.txt")]
    data = load(MORE, Reader(), unlabelled=files)
    assert data.pseudo_labelled.unlabelled.num_held_out == 1
    labelled = len(data.splits["train"])
    found = data.training_texts([labelled + 1, labelled])
    assert found == [("then.txt:4", "sure bad then"), ("first.txt:3", "sure good first")]


def test_the_threshold_decides_and_classes_are_weighed_with_them(load):
    assert load(MORE, Reader(), teacher_threshold=0.5).pseudo_labelled.rows.tolist() == [
        *(0, 1, 2, 4, 5)
    ]
    assert load(MORE, Reader(), teacher_threshold=0.9).pseudo_labelled.rows.tolist() == [0, 2, 4]
    with pytest.raises(DataError, match=r"none of the 5 .* probability of 0\.95 or more; lower"):
        load(MORE, Reader(), teacher_threshold=0.95)
    bad = load(["sure bad c"] * 50, Reader(), class_weights="balanced")
    weights = dict(zip(bad.class_names, bad.class_weights, strict=True))
    counts = np.bincount(bad.training_split.labels)
    assert weights["good"] / weights["bad"] == pytest.approx(counts[0] / counts[1])
    assert weights["good"] > 2 * weights["bad"]
    drawn = load(["sure bad c"] * 50, Reader(), weighted_sampling=True)
    labels = np.concatenate([batch.labels.numpy() for batch in drawn.train_dataloader()])
    assert abs(np.bincount(labels)[0] - np.bincount(labels)[1]) <= 1


def test_texts_of_validation_and_test_are_left_out(load):
    plain = load(MORE, Reader())
    tested, validated = plain.corpus.test.texts[1], plain.texts_of("validation")[0][0]
    with_them = [f"{tested}", *MORE, validated.upper()]
    data = load(with_them, Reader(), teacher_threshold=0.5)
    assert data.pseudo_labelled.unlabelled.num_held_out == 2
    assert data.pseudo_labelled.rows.tolist() == [0, 1, 2, 4, 5]
    for none_left in ([tested, validated], [], ['"']):
        with pytest.raises(DataError, match=r"data\.unlabelled: has no text that is not in"):
            load(none_left, Reader())


def test_a_training_text_keeps_its_own_label_alone(load):
    labelled = load(MORE, Reader()).texts_of("train")[0][3]
    data = load([*MORE, labelled.upper(), f"{labelled} more"], Reader(), teacher_threshold=0.5)
    assert data.pseudo_labelled.num_labelled == 1
    assert data.pseudo_labelled.rows.tolist() == [0, 1, 2, 4, 5, 7]
    with pytest.raises(DataError, match=r"data\.unlabelled: has no text that is not in training"):
        load([labelled], Reader(), teacher_threshold=0.5)


def test_probabilities_are_kept_and_the_fingerprint_is_of_texts_and_labels(load, tmp_path):
    teacher = Reader()
    first = load(MORE, teacher).pseudo_labelled.fingerprint
    assert load(MORE, teacher).pseudo_labelled.fingerprint == first
    assert teacher.asked == 1
    assert load(MORE, teacher, teacher_threshold=0.5).pseudo_labelled.fingerprint != first
    assert teacher.asked == 1
    assert load([*MORE, "hardly good"], teacher).pseudo_labelled.fingerprint != first
    assert teacher.asked == 2
    shutil.copy(tmp_path / "more.jsonl", tmp_path / "moved.jsonl")
    load([*MORE, "hardly good"], teacher, unlabelled=str(tmp_path / "moved.jsonl"))
    assert teacher.asked == 2  # of the same texts in another place


def test_a_teacher_of_other_classes_is_refused(load):
    with pytest.raises(ConfigError, match=r"data\.teacher: has the classes good, bad, odd; these"):
        load(MORE, Reader(("good", "bad", "odd")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "run"}, r"data\.teacher=run: labels the texts of data\.unlabelled, which"),
        ({"teacher": [], "unlabelled": "more.txt"}, "give a finished run or a list of them"),
        ({"unlabelled": "more.txt"}, r"needs data\.vectors=skipgram, data\.teacher=<run>"),
        ({"teacher": "run", "unlabelled": "more.txt", "unlabelled_batch_size": 4}, "batch_size: n"),
        ({"teacher": "run", "unlabelled": "m.txt", "teacher_threshold": 0}, "teacher_threshold"),
    ],
)
def test_impossible_options_are_named(options, message):
    data = {"source": "files", "train_path": "mine.csv"}
    with pytest.raises(ConfigError, match=message):
        validate(RunConfig, OPTIONS | {"data": data | options})


def test_without_its_teacher_a_run_is_tested_without_the_unlabelled_texts(load):
    data = load(MORE, None)
    assert data.pseudo_labelled is None and len(data.training_split) == len(data.splits["train"])
    gone = data.config.model_copy(update={"unlabelled": "gone.txt"})
    tested = TextDataModule(gone, encoding=RunEncoding(data.text_encoder, data.class_names))
    tested.setup()
    assert len(tested.splits["test"]) == len(data.splits["test"])
