"""Real data sets load as they are, at the first or second try, against the csv module."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.sources.text_files import load_files
from rnn_lab.errors import DataError


@pytest.fixture
def load(own_texts, tmp_path):
    """Load files of the folder of real texts; their own test split if it is named."""

    def load_with(train, test=None, **options) -> Corpus:
        names = [train] if isinstance(train, str) else train
        paths = [str(own_texts / name) for name in names]
        config = FilesConfig(
            train_path=paths if len(paths) > 1 else paths[0],
            test_path=None if test is None else str(own_texts / test),
            cache_dir=str(tmp_path / "cache"),
            **options,
        )
        return load_files(config)

    return load_with


def pairs(*splits, corpus: Corpus) -> Counter:
    return Counter(
        (text, corpus.class_names[label])
        for split in splits
        for text, label in zip(split.texts, split.labels, strict=True)
    )


def rows(path: Path, **dialect) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, **dialect))


def test_ag_news(load, own_texts):
    with pytest.raises(DataError, match=r"data\.text_column=\[1,2\]' joins them"):
        load("ag_news.csv")
    expected = rows(own_texts / "ag_news.csv")
    corpus = load("ag_news.csv", text_column=[1, 2])
    assert corpus.class_names == ("1", "2", "3", "4")
    joined = Counter((f"{title.strip()} {text.strip()}", label) for label, title, text in expected)
    assert pairs(corpus.train, corpus.test, corpus=corpus) == joined
    named = load("ag_news.csv", columns=["label", "title", "text"])
    texts = Counter((text, label) for label, _, text in expected)
    assert pairs(named.train, named.test, corpus=named) == texts


def test_gnad(load, own_texts):
    corpus = load("gnad.csv")
    expected = rows(own_texts / "gnad.csv", delimiter=";", quotechar="'")
    assert pairs(corpus.train, corpus.test, corpus=corpus) == Counter((t, x) for x, t in expected)
    info = corpus.source_info["train_path"]
    assert (info["delimiter"], info["quotechar"], info["header"]) == ("semicolon", "single", False)
    assert len(corpus.class_names) == 9


def test_waimai(load, own_texts):
    corpus = load("waimai_10k.csv")
    _, *expected = rows(own_texts / "waimai_10k.csv")
    assert pairs(corpus.train, corpus.test, corpus=corpus) == Counter((t, x) for x, t in expected)
    assert corpus.class_names == ("0", "1")


def test_sst2(load, own_texts):
    corpus = load("sst2_train.tsv", "sst2_test.tsv")
    for split, name in ((corpus.train, "sst2_train.tsv"), (corpus.test, "sst2_test.tsv")):
        lines = (own_texts / name).read_text(encoding="utf-8").splitlines()
        assert pairs(split, corpus=corpus) == Counter(tuple(line.split("\t")) for line in lines)


@pytest.mark.parametrize("language", ["", "_hindi"])
def test_trec(load, own_texts, language):
    names = [f"trec{language}_{split}.label" for split in ("train", "test")]
    for column, cut in (("label", None), ("coarse", ":")):
        corpus = load(*names, label_column=None if column == "label" else column)
        for split, name in zip((corpus.train, corpus.test), names, strict=True):
            lines = (own_texts / name).read_text(encoding="utf-8").split("\n")
            expected = (line.split(" ", 1)[::-1] for line in lines if line)
            assert pairs(split, corpus=corpus) == Counter(
                (text.lstrip(), label.split(cut)[0] if cut else label) for text, label in expected
            )
    assert corpus.class_names == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


def test_rt_polarity(load, own_texts):
    names = ["rt-polarity.pos", "rt-polarity.neg"]
    corpus = load(names)
    expected = Counter(
        (text, name[-3:])
        for name in names
        for text in (own_texts / name).read_text(encoding="cp1252").split("\n")
        if text
    )
    assert pairs(corpus.train, corpus.test, corpus=corpus) == expected
    assert corpus.source_info["train_path"]["encoding"] == "cp1252"
