from pathlib import Path

import numpy as np
import pytest

from rnn_lab.data.corpus import (
    Corpus,
    CorpusWriter,
    Split,
    content_fingerprint,
    fingerprint_test_split,
    open_corpus,
)
from rnn_lab.errors import DataError

TEXTS = ["naïve café", "", "日本語\n🎬", "plain"]


def split(texts=TEXTS, groups=None) -> Split:
    names = [f"name {i}" for i in range(len(texts))]
    return Split(texts, np.arange(len(texts), dtype=np.int64) % 2, names, groups)


def write(folder: Path) -> None:
    """Write TEXTS in another order; the test split is empty."""
    rows = {"train": np.array([3, 0, 2, 1]), "test": np.arange(0)}
    position_of_row = np.argsort(rows["train"])
    with CorpusWriter(folder) as corpus:
        for position in position_of_row:
            corpus.append(TEXTS[position], f"name {position}")
        corpus.skip("x.csv:3: empty text")
        corpus.finish(
            "files",
            ("a", "b"),
            rows=rows,
            labels=position_of_row % 2,
            groups=np.array([3, 3, 5, 9])[position_of_row],
        )


def test_a_corpus_is_opened_as_it_was_written(tmp_path):
    write(tmp_path)
    opened = open_corpus(tmp_path)
    assert list(opened.train.texts) == TEXTS
    assert opened.train.texts[1:3] == TEXTS[1:3]
    assert opened.train.texts[-1] == "plain"
    assert opened.train.names[2] == "name 2"
    assert opened.train.labels.tolist() == [0, 1, 0, 1]
    assert opened.train.groups.tolist() == [3, 3, 5, 9]
    assert opened.train.take(np.array([2, 0])).texts[:] == [TEXTS[2], TEXTS[0]]
    assert list(opened.test.texts) == []
    assert opened.validation is None
    assert list(opened.skipped) == ["x.csv:3: empty text"]
    assert (opened.name, opened.class_names, opened.synthetic) == ("files", ("a", "b"), False)
    with pytest.raises(IndexError):
        opened.train.texts[4]
    with pytest.raises(ValueError, match="read-only"):
        opened.train.labels[0] = 1


def test_a_corpus_in_memory_has_the_hashes_and_the_fingerprint_of_one_on_disk(tmp_path):
    write(tmp_path)
    opened = open_corpus(tmp_path)
    train, test = split(groups=np.array([3, 3, 5, 9])), split([], groups=np.zeros(0, np.int64))
    here = Corpus("files", ("a", "b"), train, test=test)
    assert opened.fingerprint == here.fingerprint
    assert opened.train.hashes.tolist() == train.hashes.tolist()
    assert len({tuple(pair) for pair in train.hashes.tolist()}) == 4
    assert train.take(np.array([1])).hashes.tolist() == train.hashes[1:2].tolist()


def test_groups_are_optional(tmp_path):
    with CorpusWriter(tmp_path) as corpus:
        for row, text in enumerate(TEXTS):
            corpus.append(text, f"name {row}")
        labels, rows = np.arange(4) % 2, {"train": np.arange(4)}
        corpus.finish("files", ("a", "b"), rows=rows, labels=labels)
    opened = open_corpus(tmp_path)
    assert opened.train.groups is None
    assert opened.test is None
    assert opened.fingerprint == Corpus("files", ("a", "b"), split()).fingerprint


def test_a_split_numbers_its_texts_and_takes_a_list_of_labels():
    made = Split(["one", "two"], [1, 0])
    assert made.names == ["0", "1"]
    assert made.labels.dtype == np.int64


def test_a_damaged_cache_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "texts.npy").write_bytes(b"")
    with pytest.raises(DataError, match=rf"{tmp_path}: this cache is damaged"):
        open_corpus(tmp_path)


def test_the_fingerprint_changes_with_any_content():
    def of(split_):
        return content_fingerprint(("a", "b"), {"train": split_})

    base = split(["ab", "c"])
    assert of(base) == of(split(["ab", "c"]))
    others = [
        split(["a", "bc"]),
        split(["c", "ab"]),
        split(["ab", "c"], groups=np.array([1, 2])),
        Split(base.texts, base.labels[::-1], base.names),
        Split(base.texts, base.labels, ["name 1", "name 0"]),
    ]
    assert len({of(base), *map(of, others)}) == 6
    assert content_fingerprint(("b", "a"), {"train": base}) != of(base)
    assert content_fingerprint(("a", "b"), {"train": base, "test": base}) != of(base)
    assert content_fingerprint(("a", "b"), {"test": base}) != of(base)


def of_test(test: Split, classes=("a", "b")) -> str | None:
    return fingerprint_test_split(Corpus("x", classes, split(["train", "x"]), test=test))


def test_the_fingerprint_of_the_test_split_is_of_its_texts_and_labels():
    first = of_test(split())
    assert first == of_test(split().take(np.array([2, 0, 3, 1])))  # in any order
    flipped = Split(TEXTS, 1 - split().labels, split().names)
    assert first == of_test(flipped, ("b", "a"))  # the same labels, in another order of classes
    assert first == fingerprint_test_split(
        Corpus("other", ("a", "b", "c"), split(["other", "y"]), test=split())
    )
    edited = split([*TEXTS[:3], "plain."])
    swapped = Split(TEXTS[::-1], split().labels[::-1], split().names)
    assert len({first, of_test(flipped), of_test(edited), of_test(swapped)}) == 4
    several = Split(TEXTS, np.array([[1, 0], [0, 0], [1, 1], [0, 1]]), split().names)
    fewer = Split(TEXTS, np.array([[1, 0], [0, 0], [0, 1], [0, 1]]), split().names)
    assert len({first, of_test(several), of_test(fewer)}) == 3
    assert fingerprint_test_split(Corpus("x", ("a", "b"), split())) is None
