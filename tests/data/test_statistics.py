import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_lab.data.config import DemoConfig, FilesConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.encode import EncodedSplit
from rnn_lab.data.statistics import TextStatistics, text_statistics, text_warnings

texts = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=1, max_size=12)


@given(texts, st.data(), st.integers(1, 6))
def test_statistics_of_some_rows_equal_plain_python(rows, data, max_length) -> None:
    lengths = np.array([len(row) for row in rows])
    whole = EncodedSplit(
        np.concatenate(rows).astype(np.uint16),
        np.cumsum(lengths) - lengths,
        lengths,
        np.zeros(len(rows), np.int64),
    )
    chosen = data.draw(st.permutations(range(len(rows))))[: data.draw(st.integers(1, len(rows)))]
    found = text_statistics(whole.take(np.array(chosen)), max_length)
    mine = [rows[i] for i in chosen]
    tokens = [token for row in mine for token in row]
    assert found == {
        "examples": len(mine),
        "median_length": np.median([len(row) for row in mine]),
        "max_length": max(map(len, mine)),
        "unknown": tokens.count(1) / len(tokens),
        "truncated": sum(len(row) > max_length for row in mine) / len(mine),
    }


def test_more_texts_than_are_read_at_a_time() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 10_000)
    ids = rng.integers(1, 4, lengths.sum()).astype(np.uint16)
    split = EncodedSplit(ids, np.cumsum(lengths) - lengths, lengths, np.zeros(10_000, np.int64))
    assert text_statistics(split, 400)["unknown"] == (ids == 1).mean()


def test_data_module_has_those_of_every_split(tmp_path) -> None:
    data = TextDataModule(
        DemoConfig(num_train=200, num_test=60, max_length=10, cache_dir=str(tmp_path))
    )
    data.setup()
    assert data.text_statistics.keys() == data.splits.keys() == {"train", "validation", "test"}
    train = data.text_statistics["train"]
    assert train["examples"] == 180
    assert train["unknown"] == 0
    assert 0 < train["truncated"] <= 1
    assert text_warnings(data.text_statistics, data.config.tokenizer) == []


def test_of_chinese_reviews_words_are_unknown_and_auto_is_not(own_texts, tmp_path) -> None:
    def set_up(**options) -> TextDataModule:
        path = str(own_texts / "waimai_10k.csv")
        data = TextDataModule(FilesConfig(train_path=path, cache_dir=str(tmp_path), **options))
        data.setup()
        return data

    words = set_up(tokenizer="basic_english")
    unknown, short = text_warnings(words.text_statistics, words.config.tokenizer)
    assert "% of the validation tokens are unknown words" in unknown
    assert "at most 2 tokens" in short or "at most 1 token" in short
    auto = set_up()
    assert auto.config.tokenizer == "char"
    assert 1_000 < auto.vocab_size < auto.config.max_vocab_size
    assert text_warnings(auto.text_statistics, auto.config.tokenizer) == []


def statistics(unknown: float = 0.0, median: float = 20) -> dict[str, TextStatistics]:
    of_split: TextStatistics = {
        "examples": 100,
        "median_length": median,
        "max_length": 90,
        "unknown": unknown,
        "truncated": 0.0,
    }
    return {"train": of_split | {"unknown": 0.0}, "validation": of_split}


@pytest.mark.parametrize(
    ("found", "tokenizer", "parts"),
    [
        (statistics(0.2), "basic_english", []),
        (statistics(0.21), "basic_english", ["21 % of the validation tokens", "bpe (subwords)"]),
        (statistics(0.5), "mine.json", ["50 % of the validation tokens", "data.tokenizer=bpe"]),
        (statistics(0.5), "char", ["unknown characters", "data.max_vocab_size=null", "=byte"]),
        (statistics(median=1), "basic_english", ["at most 1 token.", "bpe (subwords) or char"]),
        (statistics(median=2), "bpe", ["at most 2 tokens.", "data.tokenizer=char cuts"]),
        (statistics(median=2), "char", []),
        (statistics(median=2.5), "basic_english", []),
    ],
)
def test_warnings_name_the_option_that_helps(found, tokenizer, parts) -> None:
    lines = text_warnings(found, tokenizer)
    assert len(lines) == bool(parts)
    for part in parts:
        assert part in lines[0]
    assert all(line.isprintable() for line in lines)


def test_without_validation_texts_there_is_no_warning() -> None:
    assert text_warnings({"train": statistics()["train"]}, "basic_english") == []
