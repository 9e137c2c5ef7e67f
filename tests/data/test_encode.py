import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rnn_lab.data.cache import build_once
from rnn_lab.data.config import FilesConfig, ImdbConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.duplicates import split_hashes
from rnn_lab.data.encode import EncodedSplit, encode_corpus, fit_vocabulary
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenize import tokenize_corpus
from rnn_lab.data.vocabulary import UNK_ID
from tests.data.made import BLAME, PRAISE, make_corpus, make_split, random_texts
from tests.data.torchtext_answers import ALL_TOKENIZERS, TOKENIZERS, WORD_VOCABULARIES

REVIEWS = [PRAISE, BLAME, "", "Only here: zebra", *random_texts(60)]


def options(cache: Path, **fields) -> FilesConfig:
    return FilesConfig(cache_dir=str(cache), **fields)


def ids_of(split: EncodedSplit, row: int) -> list[int]:
    start = split.starts[row]
    return split.ids[start : start + split.lengths[row]].tolist()


@pytest.mark.parametrize("tokenizer", ALL_TOKENIZERS)
def test_encoded_reviews_equal_the_text_encoder(tmp_path: Path, tokenizer: str) -> None:
    corpus = make_corpus(REVIEWS, validation=make_split(["zebra unheard", " "]))
    config = options(tmp_path, tokenizer=tokenizer, max_vocab_size=300)
    vocabulary = fit_vocabulary(corpus, np.arange(40), config)
    encoder = TextEncoder(vocabulary, 10_000, "right")
    encoded = encode_corpus(corpus, vocabulary, tmp_path)
    assert list(encoded) == ["train", "validation", "test"]
    for name, split in corpus.splits.items():
        for row, text in enumerate(split.texts):
            assert ids_of(encoded[name], row) == encoder.encode(text).tolist()
        assert encoded[name].labels.tolist() == split.labels.tolist()
        assert encoded[name].lengths.min() >= 1
    assert ids_of(encoded["train"], 2) == [UNK_ID]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_vocabulary_comes_from_the_training_rows_alone(tmp_path: Path, tokenizer: str) -> None:
    corpus = make_corpus(REVIEWS)
    config = options(tmp_path, tokenizer=tokenizer, max_vocab_size=2_000)
    without_zebra = [row for row in range(len(REVIEWS)) if row != 3]
    changed = make_corpus([REVIEWS[row] if row != 3 else "giraffe" for row in range(len(REVIEWS))])
    with_all = fit_vocabulary(corpus, np.arange(len(REVIEWS)), config).state()
    assert "zebra" in with_all
    state = fit_vocabulary(corpus, np.array(without_zebra), config).state()
    assert "zebra" not in state
    assert state == fit_vocabulary(changed, np.array(without_zebra), config).state()


@pytest.mark.parametrize("kind", WORD_VOCABULARIES)
def test_word_counts_of_the_training_rows_order_the_vocabulary(tmp_path: Path, kind) -> None:
    corpus = make_corpus(["b b a", "c c c c", "a b", "", "d"])
    vocabulary = fit_vocabulary(
        corpus, np.array([0, 2, 3, 4]), options(tmp_path, tokenizer=kind.name)
    )
    assert vocabulary.state() == ["<pad>", "<unk>", "b", "a", "d"]
    vocabulary = fit_vocabulary(
        corpus, np.array([0, 2, 3, 4]), options(tmp_path, tokenizer=kind.name, min_freq=2)
    )
    assert vocabulary.state() == ["<pad>", "<unk>", "b", "a"]
    vocabulary = fit_vocabulary(
        corpus,
        np.array([0, 2, 3, 4]),
        options(tmp_path, tokenizer=kind.name, max_vocab_size=3),
    )
    assert vocabulary.state() == ["<pad>", "<unk>", "b"]


@pytest.mark.parametrize("tokenizer", ALL_TOKENIZERS)
def test_a_second_start_reads_no_text(tmp_path: Path, tokenizer: str) -> None:
    corpus = make_corpus(REVIEWS)
    config = options(tmp_path, tokenizer=tokenizer, max_vocab_size=300)
    rows = np.arange(50)
    vocabulary = fit_vocabulary(corpus, rows, config)
    first = encode_corpus(corpus, vocabulary, tmp_path)
    textless = [dataclasses.replace(split, texts=()) for split in corpus.splits.values()]
    corpus = dataclasses.replace(corpus, train=textless[0], test=textless[1])
    again = fit_vocabulary(corpus, rows, config)
    assert again.state() == vocabulary.state()
    for name, split in encode_corpus(corpus, again, tmp_path).items():
        np.testing.assert_array_equal(split.ids, first[name].ids)
        assert isinstance(split.ids.base, np.memmap)


class CountedTexts(Sequence[str]):
    """Texts that count how often each is read."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.reads = texts, [0] * len(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> str:
        self.reads[row] += row < len(self)
        return self.texts[row]


def test_vocabulary_ids_and_duplicates_take_one_pass_over_the_texts(tmp_path: Path) -> None:
    splits = {name: make_split(REVIEWS[:40]) for name in ("train", "test")}
    counted = {name: CountedTexts(list(split.texts)) for name, split in splits.items()}
    splits = {
        name: dataclasses.replace(split, texts=counted[name]) for name, split in splits.items()
    }
    corpus, rows = Corpus("files", ("a", "b"), **splits), np.arange(40)
    assert {read for texts in counted.values() for read in texts.reads} == {0}, "hashes are given"
    config = options(tmp_path, tokenizer="basic_english", max_vocab_size=30_000)
    encode_corpus(corpus, fit_vocabulary(corpus, rows, config), tmp_path)
    hashes = split_hashes(corpus, tmp_path, rows, np.arange(0))
    assert len(set(hashes["train"].words.tolist())) == len({t.lower() for t in REVIEWS[:40]})
    assert {read for texts in counted.values() for read in texts.reads} == {1}


def test_every_setting_that_changes_the_ids_has_a_cache_of_its_own(tmp_path: Path) -> None:
    corpus, rows = make_corpus(REVIEWS), np.arange(50)
    settings = [
        {},
        {"max_vocab_size": 20},
        {"min_freq": 3},
        {"tokenizer": "bpe", "max_vocab_size": 300},
        {"tokenizer": "char"},
        {"tokenizer": "char", "max_vocab_size": 20},
        {"tokenizer": "byte"},
    ]
    fitted = [(rows, setting) for setting in settings] + [(np.arange(10), {})]
    for cache in (tmp_path / "shared", tmp_path / "shared"):  # the second time from the cache
        for number, (chosen, setting) in enumerate(fitted):
            alone = fit_vocabulary(corpus, chosen, options(tmp_path / str(number), **setting))
            shared = fit_vocabulary(corpus, chosen, options(cache, **setting))
            assert shared.state() == alone.state()
            encoded = encode_corpus(corpus, shared, cache)["test"]
            expected = encode_corpus(corpus, alone, tmp_path / str(number))["test"]
            np.testing.assert_array_equal(encoded.ids, expected.ids)


def test_a_large_vocabulary_keeps_its_ids(tmp_path: Path) -> None:
    corpus = make_corpus([" ".join(f"w{i}" for i in range(70_000))])
    vocabulary = fit_vocabulary(corpus, np.arange(1), options(tmp_path, max_vocab_size=None))
    encoded = encode_corpus(corpus, vocabulary, tmp_path)["train"]
    assert encoded.ids.max() == len(vocabulary) - 1 == 70_001
    assert sorted(encoded.ids.tolist()) == list(range(2, 70_002))


def test_a_truncated_cache_is_rebuilt(tmp_path: Path) -> None:
    corpus = make_corpus(REVIEWS)
    config = options(tmp_path)
    vocabulary = fit_vocabulary(corpus, np.arange(50), config)
    before = encode_corpus(corpus, vocabulary, tmp_path)["train"].ids.tolist()
    damaged = [*tmp_path.rglob("*.npy"), *tmp_path.rglob("*.json")]
    assert len(damaged) >= 8
    for path in damaged:
        os.truncate(path, path.stat().st_size // 2)
    vocabulary = fit_vocabulary(corpus, np.arange(50), config)
    assert encode_corpus(corpus, vocabulary, tmp_path)["train"].ids.tolist() == before


TOKENIZE = """
import os, sys
if sys.argv[2] == "one core":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pathlib import Path
from rnn_lab.data.tokenize import tokenize_corpus
from tests.data.made import make_corpus, random_texts
corpus = make_corpus(random_texts(int(sys.argv[3])))
"""
NO_WORKERS = "sys.executable = '/no/such/python'; "
NOW = "tokenize_corpus(corpus, Path(sys.argv[1]))"  # no main guard, as in a notebook or script
DAEMONIC = """
import multiprocessing
process = multiprocessing.get_context("fork").Process(
    target=tokenize_corpus, args=(corpus, Path(sys.argv[1])), daemon=True
)
process.start()
process.join()
sys.exit(process.exitcode)
"""


def tokenize_in_a_script(tmp_path: Path, action: str, *arguments: str) -> subprocess.Popen:
    script = tmp_path / "script.py"
    script.write_text(TOKENIZE + action)
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cache"), *arguments],
        env=os.environ,
    )


@pytest.mark.parametrize(
    ("action", "cores"),
    [
        pytest.param(NOW, "every core", id="every core"),
        pytest.param(NOW, "one core", id="one core"),
        pytest.param(DAEMONIC, "every core", id="daemonic process"),
        pytest.param(NO_WORKERS + NOW, "every core", id="no workers"),
    ],
)
def test_tokens_do_not_depend_on_processes(tmp_path: Path, action: str, cores: str) -> None:
    if cores == "one core" and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot bind a process to a core")
    assert tokenize_in_a_script(tmp_path, action, cores, "6000").wait(timeout=60) == 0
    corpus = make_corpus(random_texts(6_000))
    theirs = tokenize_corpus(corpus, tmp_path / "cache")
    rows = [theirs.splits["train"][row] for row in (0, 2_499, 2_500, 5_000, 5_999)]
    words = [" ".join(theirs.tokens[number] for number in row) for row in rows]
    assert words == [corpus.train.texts[row] for row in (0, 2_499, 2_500, 5_000, 5_999)]
    here = tokenize_corpus(corpus, tmp_path / "here")
    assert here.tokens == theirs.tokens
    for name in ("train", "test"):
        np.testing.assert_array_equal(here.splits[name].values, theirs.splits[name].values)
        np.testing.assert_array_equal(here.splits[name].offsets, theirs.splits[name].offsets)


def test_a_run_killed_while_it_tokenizes_blocks_no_other(tmp_path: Path) -> None:
    killed = tokenize_in_a_script(tmp_path, NOW, "every core", "60000")
    folder = tmp_path / "cache" / "tokens"
    while not list(folder.glob("*.partial")):
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [path.suffix for path in folder.iterdir() if path.is_dir()] == [".partial"]
    started = time.monotonic()
    (partial,) = folder.glob("*.partial")
    build_once(partial.with_suffix(""), lambda folder: (folder / "done").touch())
    assert time.monotonic() - started < 5
    assert not partial.exists()


def test_imdb_is_encoded_and_read_back_in_under_a_second(imdb_corpus, imdb_cache) -> None:
    config = ImdbConfig(cache_dir=str(imdb_cache))
    rows = np.flatnonzero(np.arange(25_000) % 10)
    encode_corpus(imdb_corpus, fit_vocabulary(imdb_corpus, rows, config), imdb_cache)
    started = time.perf_counter()
    vocabulary = fit_vocabulary(imdb_corpus, rows, config)
    encoded = encode_corpus(imdb_corpus, vocabulary, imdb_cache)
    assert time.perf_counter() - started < 1
    encoder = TextEncoder(vocabulary, 10_000, "right")
    for row in (0, 12_499, 12_500, 24_999):
        expected = encoder.encode(imdb_corpus.test.texts[row])
        assert ids_of(encoded["test"], row) == expected.tolist()
