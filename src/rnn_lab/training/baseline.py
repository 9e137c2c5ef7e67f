"""The metrics of simple classifiers on the same splits, to compare a network with."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.validation import AUTO

if TYPE_CHECKING:
    from rnn_lab.data.datamodule import TextDataModule

MAX_EXAMPLES = 50_000  # of the training split for baseline=auto: more take minutes
_REGULARIZATION = 10.0  # C of LogisticRegression: texts of a few hundred words overfit little
_ALL_NGRAMS = 5_000  # training texts up to which an n-gram of a single text is kept


def wants_baselines(option: str, data: TextDataModule) -> bool:
    """Return whether a run with baseline=`option` is compared with the baselines."""
    if option == AUTO:
        return data.config.fits_size and len(data.splits["train"]) <= MAX_EXAMPLES
    return option != "none"


def fit_baselines(data: TextDataModule, *, test: bool) -> dict[str, dict[str, float]]:
    """Fit the baselines on the training split, and score them on validation and, if `test`, test.

    `majority` predicts the most frequent class. `tfidf` is a logistic regression on TF-IDF features
    (scikit-learn): single words and pairs of words, cut by `basic_english`, or up to three
    characters where the tokenizer of the run finds no words between spaces.

    Returns:
        By baseline its val/ and test/ accuracy and f1 (macro), and wall_time_s.
    """
    start = time.monotonic()
    texts, labels = data.texts_of("train")
    counts = np.bincount(labels, minlength=data.num_classes)
    majority = int(counts.argmax())
    found: dict[str, dict[str, float]] = {"majority": {}, "tfidf": {}}
    pipeline = _tfidf_classifier(data.config.tokenizer, len(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # L-BFGS that stops at max_iter is as good here
        pipeline.fit(texts, labels)
    for split, prefix in (("validation", "val/"), ("test", "test/")):
        if split in data.splits and (test or split != "test"):
            texts, labels = data.texts_of(split)
            constant = np.full_like(labels, majority)
            found["majority"] |= _scores(prefix, labels, constant, data.num_classes)
            predicted = pipeline.predict(texts)
            found["tfidf"] |= _scores(prefix, labels, predicted, data.num_classes)
    found["tfidf"]["wall_time_s"] = round(time.monotonic() - start, 1)
    return found


def _tfidf_classifier(tokenizer: str, examples: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from rnn_lab.data.basic_english import basic_english

    analyzer: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)}
    if tokenizer in ("basic_english", "torchtext"):
        words = {"tokenizer": basic_english, "lowercase": False, "token_pattern": None}
        analyzer = words | {"ngram_range": (1, 2)}
    min_df = 1 if examples <= _ALL_NGRAMS else 2
    features = TfidfVectorizer(sublinear_tf=True, min_df=min_df, dtype=np.float32, **analyzer)
    return make_pipeline(features, LogisticRegression(C=_REGULARIZATION, max_iter=300))


def _scores(
    prefix: str, labels: np.ndarray, predicted: Sequence[int] | np.ndarray, classes: int
) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    # As torchmetrics: a class that no text has or is predicted to have is no part of the mean.
    f1 = f1_score(labels, predicted, average="macro", zero_division=0)
    return {f"{prefix}accuracy": float(accuracy_score(labels, predicted)), f"{prefix}f1": float(f1)}
