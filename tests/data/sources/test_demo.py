import json
import time

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.sources.demo import load_demo
from tests.cli.forked import run_warm_command


@pytest.fixture(scope="module")
def demo() -> Corpus:
    started = time.perf_counter()
    corpus = load_demo(DemoConfig())
    assert time.perf_counter() - started < 10
    return corpus


def test_it_says_that_it_is_synthetic(demo):
    assert demo.synthetic
    assert demo.name == "demo"
    assert demo.class_names == ("negative", "positive")


def test_sizes_and_balance(demo):
    assert len(demo.train) == len(demo.train.texts) == len(demo.train.names) == 20_000
    assert len(demo.test) == 5_000
    for split in (demo.train, demo.test):
        assert abs(np.mean(split.labels) - 0.5) < 0.001


def test_no_review_occurs_twice(demo):
    texts = [*demo.train.texts, *demo.test.texts]
    assert len(set(texts)) == len(texts)


def test_reviews_are_20_to_80_words_of_a_small_vocabulary(demo):
    words = [text.lower().replace(".", "").replace(",", "").split() for text in demo.train.texts]
    lengths = [len(review) for review in words]
    assert min(lengths) >= 20
    assert max(lengths) <= 80
    assert 300 <= len({word for review in words for word in review}) <= 2_000


def test_a_bag_of_words_stays_below_75_percent(demo):
    bag = CountVectorizer(token_pattern=r"\w+")
    classifier = LogisticRegression(max_iter=1000)
    classifier.fit(bag.fit_transform(demo.train.texts), demo.train.labels)
    assert classifier.score(bag.transform(demo.test.texts), demo.test.labels) < 0.75


@pytest.mark.slow
def test_a_gru_passes_95_percent(tmp_path):
    done = run_warm_command(
        *("train.py", "model=gru", "data=demo", "trainer=cpu", "logger=none"),
        *("data.num_train=10000", "data.num_test=2000", "optimizer.lr=0.01"),
        *("model.embedding_dim=32", "model.hidden_size=32"),
        *(f"hydra.run.dir={tmp_path / 'run'}", "plots=false"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test/accuracy"] > 0.95
    assert result["synthetic"]


def test_the_reviews_are_the_same_on_every_machine():
    small = load_demo(DemoConfig(num_train=20, num_test=20))
    assert small.fingerprint == "f58c9ac1887e53b97d8c0e763d1a5eef44096de4524d42c101579ebf5f8c5524"


def test_the_seed_decides():
    def texts(seed):
        return load_demo(DemoConfig(num_train=20, num_test=20, data_seed=seed)).train.texts

    assert texts(1) == texts(1)
    assert not set(texts(1)) & set(texts(2))


def test_the_test_split_does_not_depend_on_the_training_size(demo):
    smaller = load_demo(DemoConfig(num_train=100))
    assert smaller.test.texts == demo.test.texts
    assert smaller.train.texts == demo.train.texts[:100]
