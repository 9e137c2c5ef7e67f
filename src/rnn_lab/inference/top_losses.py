"""Attribute the predictions of a run for its test examples with the highest loss to their words."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rnn_lab.fast_import import fast_imports
from rnn_lab.runs.predictions import parse_labels

if TYPE_CHECKING:
    from rnn_lab.reports.run.examples import AttributedText
    from rnn_lab.runs.predictions import TopLoss

MAX_STEPS = 256  # of the integration: a page of examples is a first look


def attribute_top_losses(
    checkpoint: Path, examples: "Sequence[TopLoss]"
) -> "Iterator[AttributedText]":
    """Yield the attributions of each of `examples`, from a checkpoint that may be untrusted.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    # Not before: torch takes seconds to import.
    with fast_imports():
        from rnn_lab.inference.batch_predict import classify
        from rnn_lab.inference.explanation import attributed_words, integrated_gradients
        from rnn_lab.inference.load import load_model
    from rnn_lab.reports.run.examples import AttributedText

    run = load_model(checkpoint)
    for one in examples:
        tokens = run.text_encoder.encode(one.text)
        probabilities = classify(run, [tokens], 1)[0]
        target = explained_class(one, run.class_names, probabilities)
        found = integrated_gradients(run.model, tokens, target, MAX_STEPS)
        words = attributed_words(run, one.text, found.tokens)
        yield AttributedText(
            explained=run.class_names[target],
            probability=float(probabilities[target]),
            words=[(word.text, word.known, word.start < word.stop) for word in words],
            attributions=[word.attribution for word in words],
        )


def explained_class(one: "TopLoss", class_names: Sequence[str], probabilities: np.ndarray) -> int:
    """Return the class to explain: the predicted one, or the label with the greatest error.

    Where a text has any number of labels, the cells of top_losses.csv join them.
    """
    example = one.example
    if example.prediction in class_names and example.label in class_names:
        return class_names.index(example.prediction)
    labels = parse_labels(example.label, class_names)
    predicted = parse_labels(example.prediction, class_names)
    errors = np.abs(probabilities - labels)
    wrong = labels != predicted
    return int(np.where(wrong, errors, -1).argmax() if wrong.any() else errors.argmax())
