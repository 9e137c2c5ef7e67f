"""The metrics of simple classifiers on the same splits, to compare a network with."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.data.vocabulary import VocabularyTokenizer
from rnn_lab.models.metric_table import MULTILABEL
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


def fit_baselines(
    data: TextDataModule, *, test: bool, nbsvm: bool = False
) -> dict[str, dict[str, float]]:
    """Fit the baselines on the training split, and score them on validation and, if `test`, test.

    `majority` predicts the most frequent class. `tfidf` is a logistic regression on TF-IDF features
    (scikit-learn): single words and pairs of words, as the tokenizer of
    the run cuts them, or up to three characters where it cuts no words. `nbsvm`, if wanted, is
    NB-SVM on the same features (Wang and Manning 2012).

    Where a text has any number of labels, `majority` predicts those that most texts have, and the
    others have one classifier a label, and thresholds that validation chooses for the test.

    Returns:
        By baseline its val/ and test/ accuracy and f1 (macro), and wall_time_s; where a text has
        any number of labels, also f1_micro and map.
    """
    texts, labels = data.texts_of("train")
    vectorizer = _counts(data.text_encoder.vocabulary, len(labels))
    models = {"tfidf": _tfidf_classifier(data.is_multilabel)}
    if nbsvm:
        from rnn_lab.training.naive_bayes_svm import nb_svm

        models["nbsvm"] = nb_svm()
    baselines = {name: _Baseline(model, data) for name, model in models.items()}
    with _Stopwatch() as counting:
        counts = vectorizer.fit_transform(texts)
    for baseline in baselines.values():
        baseline.fit(counts, labels)
    shares = labels.mean(axis=0) if labels.ndim == 2 else np.bincount(labels)
    found: dict[str, dict[str, float]] = {name: {} for name in ("majority", *models)}
    for split, prefix in (("validation", "val/"), ("test", "test/")):
        if split in data.splits and (test or split != "test"):
            texts, labels = data.texts_of(split)
            found["majority"] |= _majority_scores(prefix, labels, shares)
            with counting:
                counts = vectorizer.transform(texts)
            for name, baseline in baselines.items():
                found[name] |= baseline.score(prefix, counts, labels)
    for name, baseline in baselines.items():
        found[name]["wall_time_s"] = round(counting.seconds + baseline.clock.seconds, 1)
    return found


class _Baseline:
    """A classifier of counts, and the seconds that it takes."""

    def __init__(self, model: Any, data: TextDataModule) -> None:
        self._model = model
        self._is_multilabel = data.is_multilabel
        self._thresholds: torch.Tensor | None = None  # 0.5
        self.clock = _Stopwatch()

    def fit(self, counts: Any, labels: np.ndarray) -> None:
        """Fit to counts, sparse [texts, n-grams], and labels as in EncodedSplit."""
        with self.clock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # L-BFGS that stops at max_iter is as good here
            self._model.fit(counts, labels)

    def score(self, prefix: str, counts: Any, labels: np.ndarray) -> dict[str, float]:
        """Return the metrics of a split; choose thresholds for the next one by it."""
        with self.clock:
            if not self._is_multilabel:
                return _scores(prefix, labels, self._model.predict(counts))
            probabilities = self._model.predict_proba(counts)
            found = _label_scores(prefix, labels, probabilities, self._thresholds)
            self._thresholds = best_thresholds(_tensor(probabilities), _tensor(labels))
            return found


class _Stopwatch:
    """Sums up the seconds within its `with` statements."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.monotonic() - self._start


def _majority_scores(prefix: str, labels: np.ndarray, shares: np.ndarray) -> dict[str, float]:
    """Return the metrics of the most frequent class, by the `shares` of all in training."""
    if labels.ndim == 2:
        return _label_scores(prefix, labels, np.broadcast_to(shares, labels.shape), None)
    return _scores(prefix, labels, np.full_like(labels, int(shares.argmax())))


def _label_scores(
    prefix: str, labels: np.ndarray, probabilities: np.ndarray, thresholds: torch.Tensor | None
) -> dict[str, float]:
    """Return the metrics of labels and probabilities [texts, classes], by those of the network."""
    metrics = build_metrics(labels.shape[1], prefix, task=MULTILABEL)
    for metric in metrics.values():
        # Of several processes that train together, one is here; it would wait for the others.
        metric.distributed_available_fn = lambda: False
    losses = torch.zeros(len(labels))  # which the baselines do not have
    given = _tensor(probabilities), _tensor(labels)
    metrics.update(**metric_inputs(*given, losses, thresholds))
    found = {name: float(value) for name, value in metrics.compute().items()}
    return {name: value for name, value in found.items() if not name.endswith("loss")}


def _tensor(values: np.ndarray) -> torch.Tensor:
    dtype = np.int64 if values.dtype == np.uint8 else np.float32
    return torch.from_numpy(np.array(values, dtype=dtype))


def _counts(tokenizer: Tokenizer, examples: int) -> Any:
    """Return an untrained counter of the n-grams of a text."""
    from sklearn.feature_extraction.text import CountVectorizer

    analyzer: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)}
    if isinstance(tokenizer, VocabularyTokenizer) and tokenizer.unit == "word":
        words = {"tokenizer": tokenizer.tokenize, "lowercase": False, "token_pattern": None}
        analyzer = words | {"ngram_range": (1, 2)}
    min_df = 1 if examples <= _ALL_NGRAMS else 2
    return CountVectorizer(min_df=min_df, dtype=np.float32, **analyzer)


def _tfidf_classifier(is_multilabel: bool) -> Any:
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    classifier: Any = LogisticRegression(C=_REGULARIZATION, max_iter=300)
    if is_multilabel:
        classifier = OneVsRestClassifier(classifier)
    return make_pipeline(TfidfTransformer(sublinear_tf=True), classifier)


def _scores(prefix: str, labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    # As torchmetrics: a class that no text has or is predicted to have is no part of the mean.
    f1 = f1_score(labels, predicted, average="macro", zero_division=0)
    return {f"{prefix}accuracy": float(accuracy_score(labels, predicted)), f"{prefix}f1": float(f1)}
