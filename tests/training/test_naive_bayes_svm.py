"""NB-SVM against the equations of Wang and Manning 2012, computed from words in plain float64."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import log

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from sklearn.metrics import f1_score

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.sources.lists import ListsConfig, corpus_from_lists, store_corpus
from rnn_lab.training.baseline import fit_baselines
from rnn_lab.training.naive_bayes_svm import NaiveBayesSVM, log_count_ratios, nb_svm

TEXTS = ["good good film", "good plot", "bad film"]
LABELS = np.array([1, 1, 0])


def ngrams(text: str) -> set[str]:
    words = text.split()
    return {*words, *map(" ".join, pairwise(words))}


def ratios_by_hand(texts: Sequence[str], labels: Sequence[int], known: Sequence[str]) -> np.ndarray:
    counts = [Counter[str](), Counter[str]()]
    for text, label in zip(texts, labels, strict=True):
        counts[label].update(ngrams(text))
    totals = [sum(1 + count[n] for n in known) for count in counts]
    return np.array(
        [
            log(Fraction(1 + counts[1][n], totals[1]) / Fraction(1 + counts[0][n], totals[0]))
            for n in known
        ]
    )


def scores_by_hand(train: Sequence[str], labels: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Minimise the squared hinge loss with L-BFGS, on dense features in float64."""
    known = sorted(set().union(*map(ngrams, train)))
    ratios = ratios_by_hand(train, labels.tolist(), known)

    def features(given: Sequence[str]) -> np.ndarray:
        return np.array([[float(n in ngrams(text)) for n in known] for text in given]) * ratios

    x, y = np.column_stack([features(train), np.ones(len(train))]), 2.0 * labels - 1

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        gap = np.maximum(0, 1 - y * (x @ w))
        return 0.5 * w @ w + gap @ gap, w - 2 * x.T @ (y * gap)

    options = {"maxiter": 10_000, "gtol": 1e-10, "ftol": 1e-15}
    *w, b = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options=options).x
    interpolated = 0.75 * np.mean(np.abs(w)) + 0.25 * np.array(w)
    return features(texts) @ interpolated + 0.25 * b


def random_reviews(number: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    words = np.array(["good", "fine", "bad", "poor", "film", "plot", "it", "was"])
    labels = rng.integers(0, 3, number)
    likely = np.ones((3, 8))
    likely[0, :2], likely[1, 2:4], likely[2, 4:6] = 2, 2, 2
    return [
        " ".join(rng.choice(words, 6, p=likely[label] / likely[label].sum())) for label in labels
    ], labels


def module(texts, labels, folder) -> TextDataModule:
    stored = store_corpus(corpus_from_lists(texts, labels), folder)
    data = TextDataModule(ListsConfig(corpus=str(stored), cache_dir=str(folder)))
    data.setup()
    return data


def test_log_count_ratios_of_three_texts():
    # good, film, plot, bad; a text counts once: p = 1 + (2, 1, 1, 0), q = 1 + (0, 1, 0, 1).
    counts = csr_matrix([[2, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]])
    expected = [log(shares) for shares in (3 / 8 * 6 / 1, 2 / 8 * 6 / 2, 2 / 8 * 6, 1 / 8 * 6 / 2)]
    assert log_count_ratios(counts, LABELS) == pytest.approx(expected, rel=1e-14)
    words = ["good", "film", "plot", "bad"]
    by_words = [(set(text.split()), label) for text, label in zip(TEXTS, LABELS, strict=True)]
    assert [sum(w in text for text, label in by_words if label) for w in words] == [2, 1, 1, 0]


@pytest.mark.parametrize("number", [12, 120])  # fewer texts than n-grams, and more
def test_scores_are_those_of_the_paper(number):
    texts, labels = random_reviews(number)
    known = sorted(set().union(*map(ngrams, texts)))
    counts = csr_matrix([[3 * (n in ngrams(text)) for n in known] for text in texts])
    fitted = NaiveBayesSVM().fit(counts, (labels == 0).astype(int))
    expected = scores_by_hand(texts, (labels == 0).astype(int), texts)
    assert fitted.decision_function(counts) == pytest.approx(expected, abs=2e-3)
    assert fitted.predict(counts).tolist() == (expected > 0).astype(int).tolist()
    assert fitted.predict_proba(counts)[:, 1] == pytest.approx(
        1 / (1 + np.exp(-expected)), abs=1e-3
    )


def test_more_classes_are_one_against_the_rest(tmp_path):
    texts, labels = random_reviews(300)
    data = module(texts, [("neg", "neutral", "pos")[label] for label in labels], tmp_path)
    found = fit_baselines(data, test=True, nbsvm=True)
    train, labels = data.texts_of("train")
    for split, prefix in (("validation", "val/"), ("test", "test/")):
        texts, wanted = data.texts_of(split)
        scores = [scores_by_hand(train, (labels == k).astype(int), texts) for k in range(3)]
        predicted = np.argmax(scores, axis=0)
        assert found["nbsvm"][f"{prefix}accuracy"] == pytest.approx(np.mean(predicted == wanted))
        macro = f1_score(wanted, predicted, average="macro")
        assert found["nbsvm"][f"{prefix}f1"] == pytest.approx(macro)
    assert found["nbsvm"]["wall_time_s"] >= 0
    assert found.keys() == {"majority", "tfidf", "nbsvm"}
    without = fit_baselines(data, test=True)
    assert without.keys() == {"majority", "tfidf"}
    assert without["tfidf"]["test/f1"] == found["tfidf"]["test/f1"]


def test_any_number_of_labels_is_one_machine_each(tmp_path):
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c"])
    has = rng.random((200, 3)) < (0.5, 0.3, 0.2)
    texts = [" ".join([*rng.choice(["x", "y", "z"], 4), *names[row]]) for row in has]
    data = module(texts, [list(names[row]) for row in has], tmp_path)
    found = fit_baselines(data, test=True, nbsvm=True)["nbsvm"]
    train, labels = data.texts_of("train")
    texts, wanted = data.texts_of("validation")
    predicted = np.stack([scores_by_hand(train, y.astype(int), texts) >= 0 for y in labels.T], 1)
    assert found["val/f1"] == pytest.approx(f1_score(wanted, predicted, average="macro"))
    assert found["test/f1_micro"] > 0.9 and found["test/map"] > 0.9


def test_a_label_that_no_training_text_has_is_not_predicted():
    texts, _ = random_reviews(30)
    known = sorted(set().union(*map(ngrams, texts)))
    counts = csr_matrix([[int(n in ngrams(text)) for n in known] for text in texts])
    labels = np.zeros((30, 2), np.uint8)
    labels[:15, 0] = 1
    with pytest.warns(UserWarning, match="not 1 is present"):
        fitted = nb_svm().fit(counts, labels)
    assert (fitted.predict_proba(counts)[:, 1] == 0).all()
