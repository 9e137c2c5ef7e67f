import random
import warnings

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from rnn_lab.data.config import AutoConfig, DemoConfig, FilesConfig, ImdbConfig
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.splits import (
    assign_folds,
    assign_groups,
    draw_training,
    hold_out_groups,
    split_validation,
    stratified,
)
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


def test_stratified_takes_the_fraction_where_classes_are_tiny():
    labels = np.array([0] * 100 + [*range(1, 201)] * 2)
    mask = stratified(labels, 0.2, seed=0)
    assert mask.sum() == 100
    assert mask[labels == 0].sum() == 20
    assert np.bincount(labels[mask], minlength=201)[1:].max() == 1
    # One of each class, as long as that is no more than a third.
    labels = np.array([*range(50)] * 3)
    assert np.bincount(labels[stratified(labels, 0.1, seed=0)]).tolist() == [1] * 50


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


@pytest.mark.parametrize("options", [{}, {"train_size": 40}])
def test_auto_that_fell_back_is_split_as_demo(options):
    demo = corpus([0, 1] * 50, name="demo")
    fallen = split_validation(demo, AutoConfig(**options))
    asked = split_validation(demo, DemoConfig(**options))
    assert sum(map(len, fallen)) == options.get("train_size", 100)
    assert [rows.tolist() for rows in fallen] == [rows.tolist() for rows in asked]


@pytest.mark.parametrize("number", [3, 10, 57, 250, 999, 1000])
def test_a_drawn_number_of_texts_has_the_shares_of_the_classes(number):
    counts = np.array([700, 290, 10])
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], counts))
    rows = draw_training(corpus(labels), number, seed=3)
    assert len(np.unique(rows)) == number and (np.diff(rows) > 0).all()
    found = np.bincount(labels[rows], minlength=3)
    assert (found >= 1).all()
    assert (np.abs(found - number * counts / 1000) <= 1.5).all()


def test_even_classes_stay_even_and_smaller_numbers_are_among_larger_ones():
    labels = np.random.default_rng(1).permutation([0, 1] * 500)
    larger: set[int] = set(range(1000))
    for number in (800, 100, 50, 2):
        rows = draw_training(corpus(labels), number, seed=3)
        assert np.bincount(labels[rows]).tolist() == [number // 2] * 2
        assert set(rows) <= larger
        larger = set(rows)
    others = draw_training(corpus(labels), 100, seed=4)
    assert 0 < len(set(others) & set(draw_training(corpus(labels), 100, seed=3))) < 30


def test_the_drawn_texts_are_the_same_on_every_machine():
    """Expected by hand from Random(0): .84 .76 .42 .26 .51 .40 .78 .30 .48 .58."""
    assert draw_training(corpus([0, 1] * 5), 4, seed=0).tolist() == [2, 3, 7, 8]


def test_validation_is_split_off_the_drawn_texts(films):
    train, validation = split_validation(films, ImdbConfig(train_size=300, split_seed=2))
    drawn = draw_training(films, 300, seed=2)
    assert sorted([*train, *validation]) == drawn.tolist()
    groups = films.train.groups
    assert not set(groups[train]) & set(groups[validation])
    assert 30 <= len(validation) < 30 + np.bincount(groups[drawn]).max()
    cut = split_validation(corpus([0, 1] * 500), FilesConfig(train_path="x", train_size=100))
    assert list(map(len, cut)) == [90, 10]


def test_all_texts_drawn_are_all_texts(films):
    assert draw_training(films, 2000, seed=5).tolist() == list(range(2000))


def test_a_validation_split_of_the_corpus_stays_whole():
    own = corpus([0, 1]).train
    labels = [0, 1] * 20
    config = FilesConfig(train_path="x", val_path="y", train_size=10)
    train, validation = split_validation(corpus(labels, validation=own), config)
    assert train.tolist() == draw_training(corpus(labels), 10, seed=0).tolist()
    assert len(validation) == 0


def test_texts_with_any_number_of_labels_are_drawn_too():
    split = Split([str(i) for i in range(50)], np.eye(5, dtype=np.uint8).repeat(10, axis=0))
    rows = draw_training(Corpus("x", tuple("abcde"), split), 20, seed=0)
    assert len(np.unique(rows)) == 20


def test_too_few_texts_or_more_classes_than_texts():
    with pytest.raises(DataError, match=r"^data.train_size=11: .* 10 training .* from 2 to 10$"):
        draw_training(corpus([0, 1] * 5), 11, seed=0)
    with pytest.raises(DataError, match=r"^data.train_size=2: .* texts of 3 classes; .* 3 to 9$"):
        draw_training(corpus([0, 1, 2] * 3), 2, seed=0)


def test_by_film_without_films():
    with pytest.raises(DataError, match=r"by_film.*choices: random, stratified"):
        split_validation(corpus([0, 1] * 50), ImdbConfig())


@pytest.mark.parametrize("config", [ImdbConfig(), ImdbConfig(val_split="random")])
def test_too_few_texts(config):
    with pytest.raises(DataError, match="too few"):
        split_validation(corpus([0, 1], groups=[5, 5]), config)


def uneven_groups(num_rows: int = 3000, num_groups: int = 60, classes: int = 4):
    """Groups of very different sizes, each with classes of its own proportions."""
    rng = np.random.default_rng(1)
    weights = rng.pareto(1.5, num_groups) + 0.1
    groups = rng.choice(num_groups, num_rows, p=weights / weights.sum())
    shares = rng.dirichlet(np.full(classes, 0.7), num_groups)
    labels = np.array([rng.choice(classes, p=shares[group]) for group in groups])
    return labels, groups


def spread(labels: np.ndarray, fold: np.ndarray) -> float:
    """The standard deviation over folds of the share of each class, its mean over classes."""
    counts = np.array([np.bincount(labels[fold == k], minlength=4) for k in range(5)])
    return float((counts / np.bincount(labels)).std(axis=0).mean())


def folds_of_sklearn(splitter, labels: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    fold = np.full(len(labels), -1)
    for number, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
        fold[rows] = number
    return fold


@pytest.mark.parametrize(("size", "folds"), [(103, 5), (50, 2), (40, 10)])
def test_folds_have_the_sizes_of_scikit_learns(size, folds):
    labels = np.sort(np.random.default_rng(size).choice(3, size, p=[0.6, 0.3, 0.1]))
    fold = assign_folds(labels, folds, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with fewer members than folds
        expected = folds_of_sklearn(StratifiedKFold(folds), labels)
    assert set(fold) == set(range(folds))  # every example is in one
    for number in range(folds):
        ours, theirs = (np.bincount(labels[f == number], minlength=3) for f in (fold, expected))
        assert ours.tolist() == theirs.tolist()
    assert assign_folds(labels, folds, seed=1).tolist() != fold.tolist()


def test_folds_of_groups_are_as_even_as_scikit_learns():
    labels, groups = uneven_groups()
    fold = assign_folds(labels, 5, 0, groups)
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    expected = folds_of_sklearn(splitter, labels, groups)
    assert spread(labels, fold) <= 1.05 * spread(labels, expected)
    assert np.bincount(fold).std() <= 1.05 * np.bincount(expected).std()


def test_more_folds_than_rows_or_groups():
    with pytest.raises(ValueError, match="3 rows are too few for 4 folds"):
        assign_folds(np.zeros(3, int), 4, 0)
    with pytest.raises(ValueError, match="2 groups are too few for 3 folds"):
        assign_folds(np.zeros(9, int), 3, 0, np.arange(9) % 2)


@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_by_group_takes_the_fraction_of_each_class(fraction):
    labels, groups = uneven_groups(num_groups=400)
    own = corpus(labels, groups, name="files")
    config = FilesConfig(train_path="x", group_column="author", val_fraction=fraction)
    train, validation = split_validation(own, config)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert not set(groups[train]) & set(groups[validation])
    assert len(validation) / len(labels) == pytest.approx(fraction, abs=0.005)
    shares = np.bincount(labels[validation]) / np.bincount(labels)
    assert shares == pytest.approx(fraction, abs=0.025)


def test_one_large_group_is_not_held_out_for_a_small_fraction():
    groups = np.array([0] * 70 + [1] * 10 + [2] * 20)
    held_out = hold_out_groups(np.arange(100) % 2, groups, 0.1, seed=0)
    assert set(groups[held_out]) == {1}
    assert hold_out_groups(np.arange(10) % 2, np.arange(10) % 2, 0.1, seed=0).sum() == 5
    assert not hold_out_groups(np.arange(10) % 2, np.zeros(10, int), 0.1, seed=0).any()


def test_groups_are_cut_the_same_on_every_machine():
    """By hand: the groups of 4 first, to the empty parts; each of 2 to where its class is fewer."""
    groups = np.repeat([0, 1, 2, 3], [4, 4, 2, 2])
    labels = np.repeat([0, 1, 1, 0], [4, 4, 2, 2])
    part = assign_groups(labels, groups, (0.5, 0.5), seed=3)
    assert part[groups == 0][0] != part[groups == 1][0]
    assert part[groups == 2][0] == part[groups == 0][0]
    assert part[groups == 3][0] == part[groups == 1][0]


@pytest.mark.parametrize("seed", [0, 1])
def test_by_film_is_the_published_cut(films, seed):
    """Films in the drawn order until the fraction is reached: metrics of IMDB depend on it."""
    _, validation = split_validation(films, ImdbConfig(split_seed=seed))
    groups = films.train.groups
    drawn = random.Random(seed)
    names = np.unique(groups)
    order = names[np.argsort([drawn.random() for _ in names], kind="stable")]
    expected: list[int] = []
    for film in order:
        if len(expected) >= 200:
            break
        expected += np.flatnonzero(groups == film).tolist()
    assert validation.tolist() == sorted(expected)


def test_stratified_takes_about_the_fraction_of_each_of_several_labels():
    rng = np.random.default_rng(0)
    labels = (rng.random((1000, 5)) < (0.5, 0.3, 0.1, 0.05, 0.02)).astype(np.uint8)
    held_out = stratified(labels, 0.2, seed=0)
    assert abs(held_out.sum() - 200) <= 5
    for label in range(5):
        share = held_out[labels[:, label] > 0].mean()
        assert share == pytest.approx(0.2, abs=0.5 / labels[:, label].sum() + 0.01)
    assert held_out[~labels.any(axis=1)].mean() == pytest.approx(0.2, abs=0.01)
    assert np.array_equal(stratified(labels, 0.2, seed=0), held_out)
    assert not np.array_equal(stratified(labels, 0.2, seed=1), held_out)


def test_folds_have_about_equal_shares_of_each_of_several_labels():
    rng = np.random.default_rng(0)
    labels = (rng.random((1000, 4)) < (0.5, 0.3, 0.1, 0.05)).astype(np.uint8)
    groups = rng.integers(0, 200, 1000)
    for whole in (None, groups):
        fold = assign_folds(labels, 5, seed=0, groups=whole)
        assert set(fold) == set(range(5))
        counts = np.array([labels[fold == number].sum(axis=0) for number in range(5)])
        assert (np.ptp(counts, axis=0) <= (2 if whole is None else 4)).all()
        if whole is not None:
            assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
