import importlib
import logging
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pydantic import BaseModel

from rnn_lab.data.config import (
    AutoConfig,
    DataOptions,
    DemoConfig,
    FilesConfig,
    ImdbConfig,
    LongRangeConfig,
    TextOptions,
)
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.sources import registry
from rnn_lab.data.sources.registry import load_corpus, register_source
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.validation import validate


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


def test_auto_falls_back_only_if_allowed(caplog):
    with pytest.raises(DataError, match="no IMDB reviews"):
        load_corpus(AutoConfig(download=False))
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(AutoConfig(download=False), allow_fallback=True)
    assert corpus.name == "demo"
    assert corpus.synthetic
    assert "synthetic" in caplog.text
    assert "no IMDB reviews" in caplog.text


def test_auto_does_not_replace_a_damaged_imdb(tmp_path):
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"aclImdb_v1\.tar\.gz"):
        load_corpus(AutoConfig(root=str(tmp_path)), allow_fallback=True)


def test_imdb_never_falls_back():
    with pytest.raises(DataError, match="no IMDB reviews"):
        load_corpus(ImdbConfig(download=False), allow_fallback=True)


def test_auto_uses_imdb_if_it_is_on_disk(imdb_root, imdb_cache, imdb_corpus):
    config = AutoConfig(root=str(imdb_root), cache_dir=str(imdb_cache))
    assert load_corpus(config, allow_fallback=True).fingerprint == imdb_corpus.fingerprint


class WithData(BaseModel):
    """A schema with a field `data`, as in train.py."""

    data: DataOptions


OWN_SOURCE = """
    from typing import Literal

    from rnn_lab.data import Corpus, Split, TextOptions, register_source


    class WeatherConfig(TextOptions):
        num_days: int = 50
        val_split: Literal["by_film", "random"] = "by_film"


    @register_source("weather", WeatherConfig)
    def load(config: WeatherConfig) -> Corpus:
        texts = [f"day {i} was {('dry', 'wet')[i % 2]}" for i in range(config.num_days)]
        labels = [i % 2 for i in range(config.num_days)]
        weeks = [i // 7 for i in range(config.num_days)]
        return Corpus(
            name="weather",
            class_names=("dry", "wet"),
            train=Split(texts, labels, groups=weeks),
            test=Split(["it was dry", "it was wet"], [0, 1]),
        )
"""
OWN_YAML = """
    source: weather
    num_days: 70      # days to train on
    max_length: 3
    truncation_side: left
    batch_size: 8
"""


@pytest.fixture
def own_source(tmp_path, monkeypatch) -> dict:
    """Register a source from a folder outside the package; return the options of its YAML file."""
    monkeypatch.setattr(registry.SOURCES, "_entries", dict(registry.SOURCES._entries))
    (tmp_path / "my_weather.py").write_text(dedent(OWN_SOURCE))
    (tmp_path / "weather.yaml").write_text(dedent(OWN_YAML))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_weather")
    yield OmegaConf.to_container(OmegaConf.load(tmp_path / "weather.yaml"))
    sys.modules.pop("my_weather", None)


def test_a_source_of_ones_own_splits_and_gives_batches(own_source, tmp_path):
    options = own_source | {"cache_dir": str(tmp_path / "cache")}
    config = validate(WithData, {"data": options}).data
    assert (config.num_days, config.max_length, config.split_seed) == (70, 3, 0)
    data = TextDataModule(config, seed=1)
    data.setup()
    assert data.class_names == ("dry", "wet")
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes == {"train": 63, "validation": 7, "test": 2}
    weeks = [set(data.corpus.train.groups[rows]) for rows in data._texts.rows]
    assert not weeks[0] & weeks[1]
    batches = list(data.train_dataloader())
    assert sum(len(batch.labels) for batch in batches) == 63
    for batch in batches:
        assert batch.tokens.shape == (len(batch.labels), 3)
        words = [data.text_encoder.vocabulary.tokens[row[-1]] for row in batch.tokens]
        assert words == [("dry", "wet")[label] for label in batch.labels]
    # The same content has the same fingerprint, and a checkpoint names the source and no code.
    again = TextDataModule(validate(WithData, {"data": data.state_dict()["config"]}).data, seed=1)
    again.setup()
    assert again.corpus.fingerprint == data.corpus.fingerprint
    for ours, theirs in zip(batches, again.train_dataloader(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert "my_weather" not in str(data.state_dict())


def test_a_source_without_training_texts_is_one_line(own_source, tmp_path):
    options = own_source | {"cache_dir": str(tmp_path), "num_days": 0}
    data = TextDataModule(validate(WithData, {"data": options}).data)
    with pytest.raises(DataError, match=r"^weather: has no training texts$"):
        data.setup()


def test_options_of_a_source_of_ones_own_are_checked(own_source):
    for option, line in {
        "num_days": "data.num_days=x: input should be a valid integer",
        "val_split": "data.val_split=x: impossible value. Choose from: by_film, random",
        "batch_size": "data.batch_size=x: input should be a valid integer",
        "num_dyas": "data.num_dyas: no such option",
    }.items():
        with pytest.raises(ConfigError) as caught:
            validate(WithData, {"data": own_source | {option: "x"}})
        assert str(caught.value).startswith(line)
        assert "\n" not in str(caught.value)


def test_an_option_keeps_its_place_in_a_dump_of_the_whole(own_source):
    options = validate(WithData, {"data": own_source})
    assert options.model_dump()["data"]["num_days"] == 70
    assert validate(WithData, options.model_dump()) == options


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "wether",
            "data.source=wether: no such data source. Did you mean weather? Choose from: auto",
        ),
        (
            "x",
            "data.source=x: no such data source. Choose from: "
            "auto, demo, files, imdb, lists, long_range",
        ),
        (3, "data.source=3: no such data source. Choose from: "),
    ],
)
def test_an_unknown_source_is_one_line(own_source, name, line):
    with pytest.raises(ConfigError) as caught:
        validate(WithData, {"data": own_source | {"source": name}})
    assert str(caught.value).startswith(line)
    assert str(caught.value).endswith("plugins=[<its module>])")
    assert "\n" not in str(caught.value)


def test_data_that_is_no_group_is_one_line():
    with pytest.raises(ConfigError, match=r"^data=imdb: expected the options of a source"):
        validate(WithData, {"data": "imdb"})


def test_two_sources_of_one_name(own_source):
    config = registry.SOURCES["weather"].config
    with pytest.raises(ConfigError, match=r"weather is registered twice, by my_weather\.load and"):
        register_source("weather", config)(load_corpus)
    with pytest.raises(TypeError, match="not a subclass of TextOptions"):
        register_source("other", dict)
    with pytest.raises(ConfigError, match="'my/weather': the name of a data source is one word"):
        register_source("my/weather", config)(load_corpus)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("labels = [i % 2", "labels = [i % 3", "labels of train are 0 to 2; with 2 classes"),
        ("labels = [i % 2", "labels = [i % 2 / 2", "labels of train must be integers, indices"),
        ("labels = [i % 2", "labels = ['xy'[i % 2]", "labels of train must be integers, indices"),
        ("labels = [i % 2", "labels = [[1] * (1 + i % 2)", "labels of train must be integers"),
        ("labels = [i % 2", "labels = [[0.5, 1]", "labels of train must be 0 or 1, with 2 col"),
        ("labels = [i % 2", "labels = [[256, 1]", "labels of train must be 0 or 1, with 2 col"),
        ("i // 7 for", "i / 7 for", "groups of train must be integers"),
        ("[0, 1]),", "[0, float('nan')]),", "labels of test must be integers, indices into class"),
        ("[0, 1]),", "[0]),", "test has 2 texts and 1 labels"),
        ('("dry", "wet"),\n            train', '("dry",),\n            train', "1 class; two"),
        ('("dry", "wet"),\n', '("wet", "wet"),\n', "must be different texts; found 'wet'"),
        ('("dry", "wet"),\n', "(0, 1),\n", "must be different texts; found 0"),
        ("return Corpus(", "return dict(", "returned dict, expected a Corpus"),
        ("weeks = ", "weeks = open('none.csv') and ", "none.csv: no such file"),
    ],
    ids=[
        *("labels", "fractions", "names", "ragged", "shares", "bytes", "groups", "missing"),
        *("lengths", "classes", "same class", "numbers", "type", "file"),
    ],
)
def test_a_wrong_corpus_is_one_line(own_source, tmp_path, old, new, line):
    source = dedent(OWN_SOURCE)
    old, new = (text.replace("\n            ", "\n        ") for text in (old, new))
    assert old in source
    (tmp_path / "my_wrong.py").write_text(source.replace(old, new).replace('"weather"', '"wrong"'))
    importlib.import_module("my_wrong")
    sys.modules.pop("my_wrong")
    config = validate(WithData, {"data": own_source | {"source": "wrong"}}).data
    with pytest.raises(DataError, match=line) as caught:
        load_corpus(config)
    assert str(caught.value).startswith("data=wrong: ")


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ("ab", "texts is a str, expected a list of texts"),
        (iter(["a", "b"]), "texts is a list_iterator, expected a list of texts"),
        (["a", None], r"texts\[1\] is a NoneType, expected str"),
        ((b"a", "b"), r"texts\[0\] is a bytes, expected str"),
    ],
    ids=["text", "iterator", "missing", "bytes"],
)
def test_texts_that_are_no_texts_are_one_line(texts, line):
    with pytest.raises(DataError, match=f"^Split: {line}$"):
        Split(texts, [0, 1])


@pytest.mark.parametrize(
    ("labels", "stored"),
    [
        ([True, False], [1, 0]),
        ([1.0, 0.0], [1, 0]),
        (np.array([1, 0], dtype=object), [1, 0]),
        ([[True, False], [False, False]], [[1, 0], [0, 0]]),
        (np.eye(2), [[1, 0], [0, 1]]),
    ],
    ids=["booleans", "whole numbers", "objects", "rows of booleans", "rows of 0.0 and 1.0"],
)
def test_labels_of_equal_value_are_converted(labels, stored):
    found = Split(["a", "b"], labels).labels
    assert found.tolist() == stored
    assert found.dtype == (np.uint8 if found.ndim == 2 else np.int64)


def test_a_source_without_options_of_its_own_needs_no_class(monkeypatch):
    monkeypatch.setattr(registry.SOURCES, "_entries", dict(registry.SOURCES._entries))

    @register_source("pairs")
    def load(options: TextOptions) -> Corpus:
        return Corpus("pairs", ("a", "b"), Split(["x", "y"], [0, 1]))

    config = validate(WithData, {"data": {"source": "pairs", "batch_size": 4}}).data
    assert (type(config), config.batch_size) == (TextOptions, 4)
    assert load_corpus(config).name == "pairs"


def test_the_package_is_light_to_import():
    check = (
        "import sys, rnn_lab.data; from rnn_lab.data import register_source, TextOptions, Corpus"
    )
    check += "; assert 'lightning' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", check], check=True, cwd=Path(registry.__file__).parents[3]
    )


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import rnn_lab.data

    with pytest.raises(AttributeError, match="Sorce"):
        rnn_lab.data.Sorce  # noqa: B018
    assert rnn_lab.data.TextOptions is TextOptions
    assert all(hasattr(rnn_lab.data, name) for name in rnn_lab.data.__all__)
