"""A corpus from texts and labels in memory, and the source of a run that was trained on one."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from rnn_lab.data.cache import CACHE_FORMAT, build_once
from rnn_lab.data.corpus import Corpus, CorpusWriter, Split, open_corpus
from rnn_lab.data.options import TextOptions
from rnn_lab.data.readers.labels import (
    LabelEncoder,
    LabelSetEncoder,
    encoder_for,
    indicated_labels,
    label_or_labels,
    label_text,
)
from rnn_lab.data.readers.records import text_error
from rnn_lab.data.sources.registry import register_source
from rnn_lab.data.sources.text_files import check_classes, split_test
from rnn_lab.errors import ConfigError, DataError, MissingDataError
from rnn_lab.validation import FilePath, check_iterable, unknown_choice_message

Texts = Iterable[Any]  # a list, a column of pandas or Polars, an array, a generator, ...
Labelled = tuple[Texts, Iterable[Any]]
OnBadLines = Literal["error", "skip"]

_NAME = "lists"
_TEST_FRACTION = 0.2


class ListsConfig(TextOptions):
    """The options of lists. conf/data/lists.yaml explains each."""

    source: Literal["lists"] = "lists"
    corpus: FilePath | None = None
    val_split: Literal["stratified", "random"] = "stratified"


@register_source("lists", ListsConfig)
def load_lists(config: ListsConfig) -> Corpus:
    """Open a corpus that `store_corpus` stored.

    Raises:
        DataError: there is none, or it is damaged.
    """
    if config.corpus is None:
        raise DataError("data=lists: is for texts of Python; call rnn_lab.train(texts, labels)")
    if not Path(config.corpus).is_dir():
        raise MissingDataError(
            f"{config.corpus}: has the texts given to rnn_lab.train no longer; give them again, or "
            "name texts to test: data=files data.test_path=<path>"
        )
    return open_corpus(Path(config.corpus))


def store_corpus(corpus: Corpus, cache_dir: Path) -> Path:
    """Write a corpus for `load_lists` into a folder of `cache_dir`, named by its content.

    Raises:
        WriteError: it cannot be written.
    """

    def write(folder: Path) -> None:
        rows: dict[str, np.ndarray] = {}
        with CorpusWriter(folder) as writer:
            for name, split in corpus.splits.items():
                first = writer.rows
                for text, where in zip(split.texts, split.names, strict=True):
                    writer.append(text, where)
                rows[name] = np.arange(first, writer.rows)
            for line in corpus.skipped:
                writer.skip(line)
            labels = np.concatenate([split.labels for split in corpus.splits.values()])
            writer.finish(corpus.name, corpus.class_names, rows=rows, labels=labels)

    key = f"{corpus.fingerprint[:16]}-{len(corpus.skipped)}-{CACHE_FORMAT}"
    return build_once(cache_dir / f"lists-{key}", write)


def corpus_from_lists(
    texts: Texts,
    labels: Iterable[Any],
    *,
    validation: Labelled | None = None,
    test: Labelled | None = None,
    class_names: Sequence[Any] | None = None,
    on_bad_lines: OnBadLines = "error",
) -> Corpus:
    """Return a corpus of texts and labels, by the rules for files.

    Args:
        texts: strings; any iterable of them, such as a column of pandas or Polars.
        labels: one for each text: strings, numbers or booleans, also those of NumPy and torch. If a
            text has any number of labels: a list of them for each text; or a data frame with one
            column of 0 and 1 a label; or such an array [texts, classes], with `class_names`.
        validation: texts and labels to validate on; None: split off training later.
        test: texts and labels to test on; None: a stratified fifth is split off.
        class_names: the labels in the order of the classes; None: sorted, numbers by value.
        on_bad_lines: "error", or "skip" for rows that cannot be used: `Corpus.skipped` lists them.

    Raises:
        TypeError: texts, labels or class_names are a single string or no iterable, or `validation`
            or `test` is not a pair.
        ConfigError: there is no such choice of `on_bad_lines`.
        DataError: texts and labels differ in number, a row cannot be used, or there are fewer than
            two classes, or as many as rows.
    """
    if on_bad_lines not in (choices := get_args(OnBadLines)):
        what = f"on_bad_lines={on_bad_lines!r}: no such choice"
        raise ConfigError(unknown_choice_message(what, str(on_bad_lines), choices))
    for option, pair in (("validation", validation), ("test", test)):
        if pair is not None and not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise TypeError(f"{option}: give a pair of texts and labels: (texts, labels)")
    if class_names is not None:
        check_iterable(class_names, "class_names")
    given = {"train": (texts, labels), "validation": validation, "test": test}
    classes = None if class_names is None else tuple(map(label_text, class_names))
    splits: dict[str, Split] = {}
    skipped: list[str] = []
    kind = None
    for split, pair in given.items():
        if pair is not None:
            where = f"{_NAME}, {split}"
            splits[split], classes = _read(where, pair, classes, kind, on_bad_lines, skipped)
            kind = LabelEncoder if splits[split].labels.ndim == 1 else LabelSetEncoder
    assert classes is not None
    train = splits["train"]
    check_classes(_NAME, train.labels, classes)
    if test is None:
        held_out = split_test(_NAME, train.labels, _TEST_FRACTION, seed=0)
        splits["test"] = train.take(np.flatnonzero(held_out))
        splits["train"] = train.take(np.flatnonzero(~held_out))
    return Corpus(
        name=_NAME,
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
    kind: type[LabelEncoder | LabelSetEncoder] | None,
    on_bad_lines: str,
    skipped: list[str],
) -> tuple[Split, tuple[str, ...]]:
    """Return the usable rows, named by their positions from 0, and the classes."""
    check_iterable(pair[0], f"{where}: texts")
    check_iterable(pair[1], f"{where}: labels", may_be_table=True)
    texts = list(pair[0])
    labels, classes = _label_rows(where, pair[1], classes)
    if len(texts) != len(labels):
        raise DataError(f"{where}: {len(texts):,} texts and {len(labels):,} labels")
    encoder = None if kind is None else kind(classes)
    usable: list[str] = []
    names: list[str] = []
    for row, (text, value) in enumerate(zip(texts, labels, strict=True)):
        try:
            is_indicator = isinstance(value, _Indicators)
            label = indicated_labels(*value) if is_indicator else label_or_labels(value)
        except (TypeError, ValueError) as error:
            fault: str | None = str(error)
        else:
            encoder = encoder_for(label)(classes) if encoder is None else encoder
            fault = _text_fault(text) or encoder.fault(label, "class_names")
        if fault is None and encoder is not None:
            usable.append(text)
            names.append(str(row))
            encoder.add(label)
        elif on_bad_lines == "skip":
            skipped.append(f"{where} {row}: {fault}")
        else:
            raise DataError(f"{where}: row {row}: {fault} (on_bad_lines='skip' skips such rows)")
    if encoder is None or not usable:
        raise DataError(f"{where}: has no usable rows")
    if encoder.problem:
        raise DataError(f"{where}: {encoder.problem}; set class_names if they are classes")
    indices, found = encoder.finish()
    return Split(texts=usable, labels=indices, names=names), found


class _Indicators(NamedTuple):
    """The labels of one text as 0 and 1."""

    names: Sequence[str]
    values: Sequence[Any]


def _label_rows(
    where: str, labels: Any, classes: Sequence[str] | None
) -> tuple[list[Any], Sequence[str] | None]:
    """Return the label or labels of each text, and the classes where these are known."""
    columns = getattr(labels, "columns", None)
    if columns is None and getattr(labels, "ndim", 1) == 1:
        return list(labels), classes
    names = tuple(map(str, columns if columns is not None else classes or ()))
    values = labels.to_numpy() if columns is not None else labels
    if values.ndim != 2 or len(names) != values.shape[1]:
        raise DataError(
            f"{where}: an array of labels [texts, classes] needs class_names with a name for each "
            f"column; its shape is {list(values.shape)}, and there are {len(names)} names"
        )
    return [_Indicators(names, row) for row in values.tolist()], classes or names


def _text_fault(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"a text is a {type(text).__name__} and not a string"
    return text_error(text, None)
