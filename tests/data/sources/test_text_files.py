import json
from pathlib import Path

import numpy as np
import pytest

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.sources.text_files import load_files
from rnn_lab.errors import ConfigError, DataError


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load files of the working folder."""
    monkeypatch.chdir(tmp_path)

    def load_with(**options) -> Corpus:
        return load_files(FilesConfig(cache_dir="cache", **options))

    return load_with


def rows(number: int, labels=("bad", "good")) -> list[tuple[str, str]]:
    return [(f"text number {i}", labels[i % len(labels)]) for i in range(number)]


def write_csv(name: str, content: list[tuple[str, str]], separator: str = ",") -> None:
    lines = [separator.join(row) for row in [("text", "label"), *content]]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def labelled(split, corpus: Corpus) -> list[tuple[str, str]]:
    return [(t, corpus.class_names[i]) for t, i in zip(split.texts, split.labels, strict=True)]


def test_the_same_rows_from_every_format(load):
    content = rows(20)
    write_csv("a.csv", content)
    write_csv("a.tsv", content, "\t")
    Path("a.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in content)
    )
    for i, (text, label) in enumerate(content):
        Path("a", label).mkdir(parents=True, exist_ok=True)
        Path("a", label, f"{i:02}.txt").write_text(text)
    for path in ("a.csv", "a.tsv", "a.jsonl", "a"):
        corpus = load(train_path=path)
        assert corpus.name == "files"
        assert corpus.class_names == ("bad", "good")
        assert corpus.validation is None
        everything = labelled(corpus.train, corpus) + labelled(corpus.test, corpus)
        assert sorted(everything) == sorted(content)
        assert np.bincount(corpus.test.labels).tolist() == [2, 2]
        assert not set(corpus.train.texts) & set(corpus.test.texts)


def test_given_splits_are_taken_as_they_are(load):
    parts = rows(30)
    write_csv("train.csv", parts[:20])
    write_csv("val.csv", parts[20:24])
    write_csv("test.csv", parts[24:])
    corpus = load(train_path="train.csv", val_path="val.csv", test_path="test.csv")
    assert labelled(corpus.train, corpus) == parts[:20]
    assert labelled(corpus.validation, corpus) == parts[20:24]
    assert labelled(corpus.test, corpus) == parts[24:]
    assert corpus.test.names[0] == "test.csv:2"


def test_classes_in_the_order_asked_for(load):
    write_csv("a.csv", rows(20))
    assert load(train_path="a.csv", class_names=["good", "bad"]).class_names == ("good", "bad")


def test_numeric_labels_are_ordered_by_value(load):
    write_csv("a.csv", rows(60, labels=("10", "9", "1")))
    assert load(train_path="a.csv").class_names == ("1", "9", "10")


def test_three_classes_from_other_columns(load):
    lines = ["id;", *(f"{i},words {i},{'abc'[i % 3]}" for i in range(30))]
    lines[0] = "id,body of it,mood"
    Path("a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv:1: .*id, body of it, mood"):
        load(train_path="a.csv")
    corpus = load(train_path="a.csv", text_column="body of it", label_column="mood")
    assert corpus.class_names == ("a", "b", "c")


BAD = (
    'text,label\nfine,good\n,good\n"two\nlines",bad\nok,bad,extra\nnice,good\nwell,bad\nyes,good\n'
)


def test_a_bad_row_is_an_error_with_file_and_line(load):
    Path("a.csv").write_text(BAD)
    with pytest.raises(DataError, match=r"^a\.csv:3: empty text"):
        load(train_path="a.csv")


def test_skipped_rows_are_listed(load):
    Path("a.csv").write_text(BAD)
    for _ in range(2):  # parsed, then from the cache
        corpus = load(train_path="a.csv", on_bad_lines="skip", test_fraction=0.3)
        assert list(corpus.skipped) == [
            "a.csv:3: empty text",
            "a.csv:6: 3 columns where the header has 2",
        ]
        assert len(corpus.train) + len(corpus.test) == 5
        assert {"a.csv:4", "a.csv:7"} < {*corpus.train.names, *corpus.test.names}


def test_labels_that_training_does_not_know(load):
    write_csv("train.csv", rows(20))
    write_csv("test.csv", [("a", "good"), ("b", "ugly"), ("c", "bad")])
    with pytest.raises(DataError, match=r"test\.csv:3: unknown label 'ugly'.*bad, good"):
        load(train_path="train.csv", test_path="test.csv")
    corpus = load(train_path="train.csv", test_path="test.csv", on_bad_lines="skip")
    assert len(corpus.test) == 2
    with pytest.raises(DataError, match=r"train\.csv:3: unknown label 'good'"):
        load(train_path="train.csv", class_names=["bad", "fair"])
    with pytest.raises(DataError, match=r"train\.csv: has no rows of the class 'fair'"):
        load(train_path="train.csv", class_names=["bad", "good", "fair"])


def test_a_wrong_encoding(load):
    Path("a.csv").write_bytes("text,label\nok,1\nCafé,0\nso,0\nno,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.csv:3: is not utf-8: byte 0xe9"):
        load(train_path="a.csv")
    assert "Café" in (c := load(train_path="a.csv", encoding="latin-1")).train.texts or (
        "Café" in c.test.texts
    )


def test_bad_texts_in_a_folder(load):
    for label in ("bad", "good"):
        Path("a", label).mkdir(parents=True)
        for i in range(3):
            Path("a", label, f"{i}.txt").write_text(f"{label} {i}")
    Path("a", "good", "1.txt").write_bytes(b"\xff")
    Path("a", "good", "2.txt").write_bytes(b" \n")
    Path("a", "good", "3.txt").write_text("good 3")
    with pytest.raises(DataError, match=r"^a/good/1\.txt: is not utf-8: byte 0xff"):
        load(train_path="a")
    corpus = load(train_path="a", on_bad_lines="skip")
    assert list(corpus.skipped) == [
        "good/1.txt: is not utf-8: byte 0xff",
        "good/2.txt: empty text",
    ]


def test_what_cannot_be_a_data_set(load):
    write_csv("one.csv", rows(5, labels=("good",)))
    write_csv("none.csv", [])
    write_csv("tiny.csv", rows(2))
    Path("plain.txt").write_text("a text")
    Path("single", "good").mkdir(parents=True)
    Path("single", "good", "1.txt").write_text("a text")
    Path("hollow", "good").mkdir(parents=True)
    Path("hollow", "bad").mkdir()
    for path, message in {
        "one.csv": "one class only, 'good'",
        "none.csv": "no usable rows",
        "tiny.csv": "too few to split off a test split",
        "plain.txt": "plain text has no labels",
        "missing.csv": "no such file or folder",
        "single": "needs two or more folders.*; found 1",
        "hollow": "bad: contains no .txt files",
    }.items():
        with pytest.raises(DataError, match=message):
            load(train_path=path)
    with pytest.raises(ConfigError, match=r"data\.train_path="):
        load()


def test_only_bad_rows(load):
    Path("a.csv").write_text("text,label\n,1\n,2\n")
    with pytest.raises(DataError, match=r"no usable rows; the first skipped: a\.csv:2: empty text"):
        load(train_path="a.csv", on_bad_lines="skip")


def test_a_corpus_to_test_on_only(load):
    write_csv("new.csv", [("a", "good"), ("b", "good")])
    corpus = load(test_path="new.csv", class_names=["bad", "good"])
    assert len(corpus.train) == 0
    assert corpus.class_names == ("bad", "good")
    assert corpus.test.labels.tolist() == [1, 1]
    with pytest.raises(ConfigError):
        load(test_path="new.csv")


def test_a_changed_file_is_read_again(load):
    write_csv("a.csv", rows(20))
    first = load(train_path="a.csv")
    assert load(train_path="a.csv").fingerprint == first.fingerprint
    write_csv("a.csv", rows(22))
    second = load(train_path="a.csv")
    assert second.fingerprint != first.fingerprint
    assert len(second.train) + len(second.test) == 22


def test_the_fingerprint_is_of_the_content(load):
    write_csv("a.csv", rows(20))
    Path("other").mkdir()
    write_csv("other/a.csv", rows(20))
    assert load(train_path="a.csv").fingerprint == load(train_path="other/a.csv").fingerprint
    assert (
        load(train_path="a.csv", split_seed=1).fingerprint != load(train_path="a.csv").fingerprint
    )
