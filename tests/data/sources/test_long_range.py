"""The label depends only on the first word, `distance` words before the last."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from rnn_lab.data.config import LongRangeConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.sources.long_range import FILLERS, SIGNALS, load_long_range
from rnn_lab.errors import ConfigError
from rnn_lab.validation import validate


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_long_range(LongRangeConfig(distance=40))


def test_the_first_word_is_the_label(corpus):
    assert corpus.class_names == SIGNALS
    assert corpus.synthetic
    for split in (corpus.train, corpus.test):
        assert [text.split()[0] for text in split.texts] == [SIGNALS[i] for i in split.labels]


@pytest.mark.parametrize("distance", [5, 10, 300])
def test_exactly_so_many_words_follow_it(distance):
    corpus = load_long_range(LongRangeConfig(distance=distance, num_train=50, num_test=20))
    for text in (*corpus.train.texts, *corpus.test.texts):
        fillers = text.split()[1:]
        assert len(fillers) == distance
        assert set(fillers) <= set(FILLERS)


def test_sizes_and_balance(corpus):
    assert (len(corpus.train), len(corpus.test)) == (2_000, 1_000)
    for split in (corpus.train, corpus.test):
        assert split.labels.mean() == 0.5


def test_no_fillers_occur_twice_not_even_under_the_other_label():
    corpus = load_long_range(LongRangeConfig(distance=5))  # 32,768 are possible
    fillers = [text.partition(" ")[2] for text in (*corpus.train.texts, *corpus.test.texts)]
    assert len(set(fillers)) == len(fillers) == 3_000


def test_the_fillers_say_nothing_of_the_label(corpus):
    """Neither their counts nor their positions: a linear model does not beat chance."""
    fillers = [
        [text.partition(" ")[2] for text in split.texts] for split in (corpus.train, corpus.test)
    ]
    placed = [
        [" ".join(f"{word}{i}" for i, word in enumerate(text.split())) for text in texts]
        for texts in fillers
    ]
    for train, test in (fillers, placed):
        bag = CountVectorizer()
        model = LogisticRegression(C=0.01).fit(bag.fit_transform(train), corpus.train.labels)
        assert abs(model.score(bag.transform(test), corpus.test.labels) - 0.5) < 0.06


def test_every_filler_is_as_frequent_at_every_place(corpus):
    words = np.array([text.split()[1:] for text in corpus.train.texts])  # [texts, distance]
    shares = np.stack([(words == filler).mean(axis=0) for filler in FILLERS])
    assert np.abs(shares - 1 / len(FILLERS)).max() < 0.04


def test_the_texts_are_the_same_on_every_machine():
    small = load_long_range(LongRangeConfig(distance=10, num_train=20, num_test=20))
    assert small.fingerprint == "cc85051e55524eac56103bcebeb9a88f55b5730853f85ff437f05a011f8c5a20"


def test_seed_and_distance_decide():
    def texts(**options):
        config = LongRangeConfig(**{"distance": 20, "num_train": 20, "num_test": 20} | options)
        return load_long_range(config).train.texts

    assert texts() == texts()
    assert not set(texts()) & set(texts(data_seed=1))
    longer = [" ".join(text.split()[:21]) for text in texts(distance=21)]
    assert not set(texts()) & set(longer)


def test_the_test_split_does_not_depend_on_the_training_size(corpus):
    smaller = load_long_range(LongRangeConfig(distance=40, num_train=100))
    assert smaller.test.texts == corpus.test.texts
    assert smaller.train.texts == corpus.train.texts[:100]


def test_a_batch_holds_the_whole_text(tmp_path):
    config = LongRangeConfig(distance=900, num_train=20, num_test=20, cache_dir=str(tmp_path))
    data = TextDataModule(config)
    data.setup()
    batch = next(iter(data.test_dataloader()))
    assert batch.lengths.tolist() == [901] * 20
    signals = data.text_encoder.vocabulary.ids(SIGNALS)
    assert batch.tokens[:, 0].tolist() == signals[batch.labels].tolist()


def test_a_length_that_would_cut_the_signal_off_is_refused():
    assert LongRangeConfig(distance=99, max_length=100).max_length == 100
    with pytest.raises(ConfigError) as refused:
        validate(LongRangeConfig, {"distance": 100, "max_length": 100})
    assert str(refused.value) == (
        "data.max_length=100: cuts off the signal word; data.distance=100 needs 101 or more"
    )
