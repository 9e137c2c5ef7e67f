import numpy as np
import pytest

from rnn_lab.data.config import AutoConfig, DemoConfig, FilesConfig, ImdbConfig
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.splits import split_validation, stratified
from rnn_lab.errors import DataError


def corpus(labels, groups=None, validation=None, name="imdb") -> Corpus:
    labels = np.array(labels, dtype=np.int64)
    groups = None if groups is None else np.array(groups, dtype=np.int64)
    texts = [f"review {row}" for row in range(len(labels))]
    split = Split(texts, labels, texts, groups)
    return Corpus(name, ("negative", "positive"), split, validation, None, fingerprint="")


@pytest.fixture
def films() -> Corpus:
    rng = np.random.default_rng(0)
    return corpus(rng.integers(0, 2, 2000), rng.integers(100, 300, 2000))


def test_by_film_keeps_every_film_on_one_side(films):
    train, validation = split_validation(films, ImdbConfig(val_fraction=0.2))
    groups = films.train.groups
    assert sorted([*train, *validation]) == list(range(2000))
    assert not set(groups[train]) & set(groups[validation])
    largest = np.bincount(groups).max()
    assert 400 <= len(validation) < 400 + largest


def test_random_takes_the_fraction_and_shares_films(films):
    train, validation = split_validation(films, ImdbConfig(val_split="random"))
    assert sorted([*train, *validation]) == list(range(2000))
    assert len(validation) == 200
    assert set(films.train.groups[train]) & set(films.train.groups[validation])


def test_stratified_takes_the_fraction_of_each_class():
    labels = [0] * 900 + [1] * 90 + [2] * 10
    _, validation = split_validation(corpus(labels, name="files"), FilesConfig(train_path="x"))
    assert np.bincount(np.array(labels)[validation]).tolist() == [90, 9, 1]


def test_stratified_leaves_a_class_of_one_to_training():
    mask = stratified(np.array([0] * 10 + [1] + [2] * 2), 0.1, seed=0)
    assert np.bincount(np.array([0] * 10 + [1] + [2] * 2)[mask], minlength=3).tolist() == [1, 0, 1]
    assert stratified(np.array([0, 0, 1, 1]), 0.99, seed=0).sum() == 2


@pytest.mark.parametrize("method", ["by_film", "random"])
def test_the_seed_decides(films, method):
    def cut(seed):
        return split_validation(films, ImdbConfig(val_split=method, split_seed=seed))[1].tolist()

    assert cut(1) == cut(1)
    assert cut(1) != cut(2)


def test_the_split_is_the_same_on_every_machine():
    """Expected by hand from Random(0): .84 .76 .42 .26 .51 .40 .78 .30 .48 .58."""
    split = corpus([0, 1] * 5)
    _, validation = split_validation(split, ImdbConfig(val_split="random", val_fraction=0.3))
    assert validation.tolist() == [3, 5, 7]


def test_a_validation_split_of_the_corpus_is_used():
    own = corpus([0, 1]).train
    train, validation = split_validation(corpus([0, 1, 1], validation=own), ImdbConfig())
    assert train.tolist() == [0, 1, 2]
    assert validation.tolist() == []


def test_an_empty_training_split_stays_empty():
    train, validation = split_validation(corpus([]), ImdbConfig())
    assert len(train) == len(validation) == 0


def test_auto_that_fell_back_is_split_as_demo():
    demo = corpus([0, 1] * 50, name="demo")
    fallen = split_validation(demo, AutoConfig())
    asked = split_validation(demo, DemoConfig())
    assert [rows.tolist() for rows in fallen] == [rows.tolist() for rows in asked]


def test_by_film_without_films():
    with pytest.raises(DataError, match=r"by_film.*choices: random, stratified"):
        split_validation(corpus([0, 1] * 50), ImdbConfig())


@pytest.mark.parametrize("config", [ImdbConfig(), ImdbConfig(val_split="random")])
def test_too_few_texts(config):
    with pytest.raises(DataError, match="too few"):
        split_validation(corpus([0, 1], groups=[5, 5]), config)
