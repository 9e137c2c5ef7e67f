"""The metrics of simple classifiers on the same splits, to compare a network with."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnn_lab.data.options import WORD_TOKENIZERS
from rnn_lab.models.metrics import build_metrics, metric_inputs
from rnn_lab.models.tasks import best_thresholds
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

    Where a text has any number of labels, `majority` predicts those that most texts have, and
    `tfidf` has one regression a label, and thresholds that validation chooses for the test.

    Returns:
        By baseline its val/ and test/ accuracy and f1 (macro), and wall_time_s; where a text has
        any number of labels, also f1_micro and map.
    """
    start = time.monotonic()
    texts, labels = data.texts_of("train")
    found: dict[str, dict[str, float]] = {"majority": {}, "tfidf": {}}
    pipeline = _tfidf_classifier(data.config.tokenizer, len(labels), data.task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # L-BFGS that stops at max_iter is as good here
        pipeline.fit(texts, labels)
    is_multilabel = data.task == "multilabel"
    shares = labels.mean(axis=0) if is_multilabel else np.bincount(labels)
    thresholds = None  # 0.5 in validation, which chooses those of the test
    for split, prefix in (("validation", "val/"), ("test", "test/")):
        if split in data.splits and (test or split != "test"):
            texts, labels = data.texts_of(split)
            if is_multilabel:
                constant = np.broadcast_to(shares, labels.shape)
                found["majority"] |= _label_scores(prefix, labels, constant, None)
                probabilities = pipeline.predict_proba(texts)
                found["tfidf"] |= _label_scores(prefix, labels, probabilities, thresholds)
                thresholds = best_thresholds(_tensor(probabilities), _tensor(labels))
                continue
            constant = np.full_like(labels, int(shares.argmax()))
            found["majority"] |= _scores(prefix, labels, constant, data.num_classes)
            predicted = pipeline.predict(texts)
            found["tfidf"] |= _scores(prefix, labels, predicted, data.num_classes)
    found["tfidf"]["wall_time_s"] = round(time.monotonic() - start, 1)
    return found


def _label_scores(
    prefix: str, labels: np.ndarray, probabilities: np.ndarray, thresholds: torch.Tensor | None
) -> dict[str, float]:
    """Return the metrics of labels and probabilities [texts, classes], by those of the network."""
    metrics = build_metrics(labels.shape[1], prefix, task="multilabel")
    losses = torch.zeros(len(labels))  # which the baselines do not have
    given = _tensor(probabilities), _tensor(labels)
    metrics.update(**metric_inputs(*given, losses, thresholds))
    found = {name: float(value) for name, value in metrics.compute().items()}
    return {name: value for name, value in found.items() if not name.endswith("loss")}


def _tensor(values: np.ndarray) -> torch.Tensor:
    dtype = np.int64 if values.dtype == np.uint8 else np.float32
    return torch.from_numpy(np.array(values, dtype=dtype))


def _tfidf_classifier(tokenizer: str, examples: int, task: str) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    from rnn_lab.data.basic_english import basic_english

    analyzer: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)}
    if tokenizer in WORD_TOKENIZERS:
        words = {"tokenizer": basic_english, "lowercase": False, "token_pattern": None}
        analyzer = words | {"ngram_range": (1, 2)}
    min_df = 1 if examples <= _ALL_NGRAMS else 2
    features = TfidfVectorizer(sublinear_tf=True, min_df=min_df, dtype=np.float32, **analyzer)
    classifier: Any = LogisticRegression(C=_REGULARIZATION, max_iter=300)
    if task == "multilabel":
        classifier = OneVsRestClassifier(classifier)
    return make_pipeline(features, classifier)


def _scores(
    prefix: str, labels: np.ndarray, predicted: Sequence[int] | np.ndarray, classes: int
) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    # As torchmetrics: a class that no text has or is predicted to have is no part of the mean.
    f1 = f1_score(labels, predicted, average="macro", zero_division=0)
    return {f"{prefix}accuracy": float(accuracy_score(labels, predicted)), f"{prefix}f1": float(f1)}
