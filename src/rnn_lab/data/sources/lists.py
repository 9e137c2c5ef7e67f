"""A corpus from texts and labels in memory."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.readers.labels import LabelEncoder, label_text
from rnn_lab.data.readers.records import text_error
from rnn_lab.data.sources.text_files import check_classes, split_test
from rnn_lab.errors import DataError

Texts = Iterable[Any]  # a list, a column of pandas or Polars, an array, a generator, ...
Labelled = tuple[Texts, Iterable[Any]]


def corpus_from_lists(
    texts: Texts,
    labels: Iterable[Any],
    *,
    validation: Labelled | None = None,
    test: Labelled | None = None,
    class_names: Sequence[Any] | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    on_bad_lines: Literal["error", "skip"] = "error",
    name: str = "lists",
) -> Corpus:
    """Return a corpus of texts and labels, by the rules for files.

    Args:
        texts: strings; any iterable of them, such as a column of pandas or Polars.
        labels: one for each text: strings, numbers or booleans, also those of NumPy.
        validation: texts and labels to validate on; None: split off training later.
        test: texts and labels to test on; None: a stratified `test_fraction` is split off.
        class_names: the labels in the order of the classes; None: sorted, numbers by value.
        test_fraction: share of the texts that is the test split if `test` is None.
        split_seed: of the test split.
        on_bad_lines: "error", or "skip" for rows that cannot be used: `Corpus.skipped` lists them.
        name: of the corpus.

    Raises:
        DataError: texts and labels differ in number, a row cannot be used, or there are fewer than
            two classes, or as many as rows.
    """
    given = {"train": (texts, labels), "validation": validation, "test": test}
    classes = None if class_names is None else tuple(map(label_text, class_names))
    splits: dict[str, Split] = {}
    skipped: list[str] = []
    for split, pair in given.items():
        if pair is not None:
            where = f"{name}, {split}"
            splits[split], classes = _read(where, pair, classes, on_bad_lines, skipped)
    assert classes is not None
    train = splits["train"]
    check_classes(name, train.labels, classes)
    if test is None:
        held_out = split_test(name, train.labels, test_fraction, split_seed)
        splits["test"] = train.take(np.flatnonzero(held_out))
        splits["train"] = train.take(np.flatnonzero(~held_out))
    return Corpus(
        name=name,
        class_names=classes,
        train=splits["train"],
        validation=splits.get("validation"),
        test=splits["test"],
        skipped=skipped,
    )


def _read(
    where: str,
    pair: Labelled,
    classes: Sequence[str] | None,
    on_bad_lines: str,
    skipped: list[str],
) -> tuple[Split, tuple[str, ...]]:
    """Return the usable rows, named by their positions from 0, and the classes."""
    texts, labels = (list(values) for values in pair)
    if len(texts) != len(labels):
        raise DataError(f"{where}: {len(texts):,} texts and {len(labels):,} labels")
    encoder = LabelEncoder(classes)
    usable: list[str] = []
    names: list[str] = []
    for row, (text, value) in enumerate(zip(texts, labels, strict=True)):
        try:
            label = label_text(value)
        except TypeError as error:
            fault: str | None = str(error)
        else:
            fault = _text_fault(text) or encoder.fault(label, "class_names")
        if fault is None:
            usable.append(text)
            names.append(str(row))
            encoder.add(label)
        elif on_bad_lines == "skip":
            skipped.append(f"{where} {row}: {fault}")
        else:
            raise DataError(f"{where}: row {row}: {fault} (on_bad_lines='skip' skips such rows)")
    if not usable:
        raise DataError(f"{where}: has no usable rows")
    if encoder.problem:
        raise DataError(f"{where}: {encoder.problem}; set class_names if they are classes")
    indices, found = encoder.finish()
    return Split(texts=usable, labels=indices, names=names), found


def _text_fault(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"a text is a {type(text).__name__} and not a string"
    return text_error(text, None)
