import time
import unicodedata

import numpy as np
import pytest

from rnn_lab.data.bpe import SubwordTokenizer
from rnn_lab.data.config import DemoConfig, FilesConfig, ImdbConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.encode import fit_vocabulary
from rnn_lab.data.tokenizer_choice import (
    SAMPLE_CHARACTERS,
    SAMPLE_TEXTS,
    choose_tokenizer,
    measure_spacing,
    resolve_tokenizer,
)
from rnn_lab.errors import ConfigError
from tests.data.made import make_corpus, random_texts

WORDS = "basic_english"
THAI = "ผมไม่ชอบอาหารร้านนี้เลย แพงมาก"
ENGLISH = "The film was good, and the actors were better than in the last one."


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        (ENGLISH, WORDS),
        ("Die Geschwindigkeitsbegrenzung auf der Autobahn wurde aufgehoben.", WORDS),
        ("Elokuva oli erittäin mielenkiintoinen, mutta näyttelijät pettymys.", WORDS),
        ("भारत की राजधानी कौन सी है?", WORDS),
        ("أين تقع عاصمة مصر؟", WORDS),
        ("오늘은 날씨가 좋습니다 그리고 기분도 좋습니다", WORDS),
        ("Hôm nay trời rất đẹp và tôi rất vui", WORDS),
        ("8/10 ★★★ :-)", WORDS),
        ("", WORDS),
        ("我 喜欢 这个 电影 。 非常 好看", WORDS),  # cut into words already
        ("ร้าน นี้ อร่อย มาก แนะนำ", WORDS),
        ("很好吃。送餐也快。下次还会再点的", "char"),
        ("東京に行きましたが、とても楽しかったです。", "char"),
        (THAI, "bpe"),
        ("ຂ້ອຍບໍ່ມັກອາຫານຮ້ານນີ້", "bpe"),
        ("ខ្ញុំមិនចូលចិត្តអាហារនេះទេ", "bpe"),
        ("ဒီဆိုင်ကအစားအစာကိုမကြိုက်ဘူး", "bpe"),
        ("The food was 味道非常好下次还会再点 and I liked it", "bpe"),
        ("iPhone很好用。下次还会再买这个牌子的东西", "char"),
        ("ACGT" * 20, "bpe"),
    ],
)
def test_the_script_and_the_spaces_decide(text, tokenizer) -> None:
    assert choose_tokenizer([text]) == tokenizer
    assert choose_tokenizer([text] * 9) == tokenizer


def test_some_foreign_words_do_not_decide() -> None:
    assert choose_tokenizer([ENGLISH] * 30 + ["很好吃。送餐也快。下次还会再点的"]) == WORDS


def test_spacing_is_the_median_over_letters() -> None:
    text = "it is a 2nd well-known fact, 你好"
    spacing = measure_spacing([text])
    letters = [c for c in text if unicodedata.category(c)[0] == "L"]
    assert spacing.unspaced_share == spacing.ideograph_share == 2 / len(letters)
    runs = ["it", "is", "a", "nd", "wellknown", "fact", "你好"]
    by_letter = sorted(len(run) for run in runs for _ in run)
    assert spacing.letters_between_spaces == by_letter[(len(by_letter) - 1) // 2] == 4


@pytest.mark.parametrize("name", ["waimai_10k.csv", "trec_hindi_train.label", "gnad.csv"])
def test_real_texts(own_texts, name) -> None:
    lines = (own_texts / name).read_text(encoding="utf-8").splitlines()
    assert choose_tokenizer(lines) == ("char" if name.startswith("waimai") else WORDS)


def test_imdb_is_words_as_before_and_at_once(imdb_corpus) -> None:
    rows = np.flatnonzero(np.arange(25_000) % 10)
    started = time.perf_counter()
    resolved = resolve_tokenizer(ImdbConfig(), imdb_corpus, rows)
    assert time.perf_counter() - started < 1
    assert (resolved.tokenizer, resolved.max_vocab_size) == (WORDS, 30_000)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (WORDS, 30_000)),
        ({"max_vocab_size": None}, (WORDS, None)),
        ({"max_vocab_size": 50}, (WORDS, 50)),
        ({"tokenizer": "bpe"}, ("bpe", 1_000)),
        ({"tokenizer": "bpe", "max_vocab_size": 300}, ("bpe", 300)),
        ({"tokenizer": "char"}, ("char", 10_000)),
        ({"tokenizer": "byte"}, ("byte", None)),
        ({"tokenizer": "mine.json"}, ("mine.json", None)),
    ],
)
def test_each_auto_is_replaced_by_what_it_means(options, expected) -> None:
    corpus = make_corpus(random_texts(60))
    config = FilesConfig(**options)
    resolved = resolve_tokenizer(config, corpus, np.arange(60))
    assert (resolved.tokenizer, resolved.max_vocab_size) == expected
    assert resolve_tokenizer(resolved, corpus, np.arange(60)) is resolved


def test_the_training_rows_alone_decide() -> None:
    chinese = "很好吃。送餐也快。下次还会再点的"
    corpus = make_corpus([ENGLISH] * 20 + [chinese] * 20, test=[chinese] * 9)
    assert resolve_tokenizer(FilesConfig(), corpus, np.arange(20)).tokenizer == WORDS
    assert resolve_tokenizer(FilesConfig(), corpus, np.arange(20, 40)).tokenizer == "char"
    assert resolve_tokenizer(FilesConfig(), corpus, np.arange(40)).tokenizer == "bpe"


def test_of_many_and_long_texts_a_sample_is_read() -> None:
    class Counted(list):
        reads = 0

        def __getitem__(self, row):
            Counted.reads += 1
            return super().__getitem__(row)

    corpus = make_corpus(["a word " * SAMPLE_CHARACTERS] * 4 * SAMPLE_TEXTS)
    object.__setattr__(corpus.train, "texts", Counted(corpus.train.texts))
    resolve_tokenizer(FilesConfig(), corpus, np.arange(len(corpus.train)))
    assert Counted.reads == SAMPLE_TEXTS


def test_subwords_grow_with_the_amount_of_text() -> None:
    sizes = [SubwordTokenizer.default_vocab_size(10.0**n) for n in range(3, 9)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1_000
    assert SubwordTokenizer.default_vocab_size(250_000) == 4_000
    assert sizes[-1] == 30_000


def test_vocabulary_of_auto_is_that_of_what_it_means(tmp_path) -> None:
    corpus, rows = make_corpus(random_texts(60)), np.arange(60)
    auto = fit_vocabulary(corpus, rows, FilesConfig(cache_dir=str(tmp_path / "auto")))
    named = FilesConfig(cache_dir=str(tmp_path / "named"), tokenizer=WORDS, max_vocab_size=30_000)
    assert auto.state() == fit_vocabulary(corpus, rows, named).state()


def test_data_module_names_what_auto_means(tmp_path) -> None:
    config = DemoConfig(num_train=60, num_test=20, cache_dir=str(tmp_path))
    assert (config.tokenizer, config.max_vocab_size) == ("auto", "auto")
    data = TextDataModule(config)
    data.setup()
    saved = data.state_dict()["config"]
    assert (saved["tokenizer"], saved["max_vocab_size"]) == (WORDS, 30_000)
    assert DemoConfig(**saved) == data.config


@pytest.mark.parametrize("size", [None, 100])
def test_a_size_that_bpe_cannot_have_is_one_line(size) -> None:
    corpus = make_corpus([THAI] * 9)
    with pytest.raises(ConfigError, match=r"^data\.max_vocab_size=(null|100): .*258 or more$"):
        resolve_tokenizer(FilesConfig(max_vocab_size=size), corpus, np.arange(9))
