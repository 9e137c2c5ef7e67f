import logging

import pytest

from rnn_lab.data.config import AutoConfig, DemoConfig, FilesConfig, ImdbConfig, LongRangeConfig
from rnn_lab.data.sources.registry import load_corpus
from rnn_lab.errors import DataError


@pytest.fixture(autouse=True)
def no_imdb(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMDB_ROOT", raising=False)


def test_each_source(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "one,1\ntwo,2\n" * 10)
    assert load_corpus(FilesConfig(train_path=str(path), cache_dir="cache")).name == "files"
    assert load_corpus(DemoConfig(num_train=20, num_test=20)).name == "demo"
    assert load_corpus(LongRangeConfig(num_train=20, num_test=20)).name == "long_range"
    with pytest.raises(DataError, match="no IMDB reviews"):
        load_corpus(ImdbConfig(download=False))


def test_auto_falls_back_only_where_it_may(caplog):
    with pytest.raises(DataError, match="no IMDB reviews"):
        load_corpus(AutoConfig(download=False))
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(AutoConfig(download=False), allow_fallback=True)
    assert corpus.name == "demo"
    assert corpus.synthetic
    assert "synthetic" in caplog.text
    assert "no IMDB reviews" in caplog.text


def test_auto_does_not_pass_over_a_damaged_imdb(tmp_path):
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"aclImdb_v1\.tar\.gz"):
        load_corpus(AutoConfig(root=str(tmp_path)), allow_fallback=True)


def test_imdb_asked_for_never_falls_back():
    with pytest.raises(DataError, match="no IMDB reviews"):
        load_corpus(ImdbConfig(download=False), allow_fallback=True)


def test_auto_takes_imdb_where_it_is(imdb_root, imdb_cache, imdb_corpus):
    config = AutoConfig(root=str(imdb_root), cache_dir=str(imdb_cache))
    assert load_corpus(config, allow_fallback=True).fingerprint == imdb_corpus.fingerprint
