import os

import numpy as np
import pytest

from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.corpus_storage import content_fingerprint, open_corpus, stat_key, write_corpus
from rnn_lab.errors import DataError

TEXTS = ["naïve café", "", "日本語\n🎬", "plain"]


def split(texts=TEXTS, groups=None) -> Split:
    names = [f"name {i}" for i in range(len(texts))]
    return Split(texts, np.arange(len(texts), dtype=np.int64) % 2, names, groups)


def corpus(**fields) -> Corpus:
    defaults = {"name": "files", "class_names": ("a", "b"), "validation": None, "test": None}
    return Corpus(**{**defaults, "train": split(), "fingerprint": "f", **fields})


def test_a_corpus_is_opened_as_it_was_written(tmp_path):
    written = corpus(
        train=split(groups=np.array([3, 3, 5, 9])),
        test=split([]),
        synthetic=True,
        skipped=("x.csv:3: empty text",),
    )
    write_corpus(written, tmp_path)
    opened = open_corpus(tmp_path)
    assert list(opened.train.texts) == TEXTS
    assert opened.train.texts[1:3] == TEXTS[1:3]
    assert opened.train.texts[-1] == "plain"
    assert opened.train.names[2] == "name 2"
    assert opened.train.labels.tolist() == [0, 1, 0, 1]
    assert opened.train.groups.tolist() == [3, 3, 5, 9]
    assert list(opened.test.texts) == []
    assert opened.test.groups is None
    assert opened.validation is None
    assert list(opened.skipped) == ["x.csv:3: empty text"]
    for field in ("name", "class_names", "fingerprint", "synthetic"):
        assert getattr(opened, field) == getattr(written, field)
    with pytest.raises(IndexError):
        opened.train.texts[4]
    with pytest.raises(ValueError, match="read-only"):
        opened.train.labels[0] = 1


def test_a_damaged_store_is_refused_by_name(tmp_path):
    write_corpus(corpus(), tmp_path)
    (tmp_path / "train_texts.npy").write_bytes(b"")
    with pytest.raises(DataError, match=rf"{tmp_path}: this cache is damaged"):
        open_corpus(tmp_path)


def test_the_fingerprint_tells_every_difference_of_content():
    def of(split_):
        return content_fingerprint(("a", "b"), [split_])

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
    assert content_fingerprint(("b", "a"), [base]) != of(base)
    assert content_fingerprint(("a", "b"), [base, None]) != of(base)


def test_the_key_follows_the_files_and_the_options(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("one")
    key = stat_key([path])
    assert stat_key([path]) == key
    assert stat_key([path], "options") != key
    path.write_text("other")
    assert stat_key([path]) != key
    path.write_text("two")  # of the old size
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert stat_key([path]) != key
