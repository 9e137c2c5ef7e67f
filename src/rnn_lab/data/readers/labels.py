"""Labels in one form for all formats, and their order as classes."""

import math
import re
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

# As pandas reads them. "none" and "NONE" are not among them: data sets have classes of that name.
MISSING_LABELS = frozenset({"", "nan", "NaN", "None", "null", "NULL", "NA", "N/A", "n/a", "<NA>"})
_WHOLE = re.compile(r"(-?)(0|[1-9][0-9]*)\.0+")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_BOOLEANS = frozenset({"true", "false"})

_MIN_ID_CLASSES = 10  # below, more classes than half the rows are a small data set
_MAX_FRACTIONAL_CLASSES = 20
_MANY_CLASSES = 100_000  # checked while a file is read


def canonical_label(label: str) -> str:
    """Return a label as every format spells it: stripped, and 1 for 1.0."""
    label = label.strip()
    if whole := _WHOLE.fullmatch(label):
        label = "".join(whole.groups())
    return "0" if label == "-0" else label


def label_text(value: Any) -> str:
    """Return a value of JSON, Arrow or Python as a label; "" if it is missing.

    Raises:
        TypeError: a label cannot be of that type.
    """
    if isinstance(value, str):
        return canonical_label(value)
    value = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""  # some programs write NaN for a missing value
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int | Decimal):
        return canonical_label(str(value))
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    raise TypeError(f"a label cannot be of the type {type(value).__name__}")


def is_number(label: str) -> bool:
    """Return whether a label is a number."""
    return _NUMBER.fullmatch(label) is not None


def class_of_label(labels: Iterable[str]) -> dict[str, str]:
    """Return the class of each distinct label: true for TRUE where all labels are booleans."""
    labels = list(labels)
    if {label.lower() for label in labels} <= _BOOLEANS:
        return {label: label.lower() for label in labels}
    return {label: label for label in labels}


def sorted_classes(labels: Iterable[str]) -> list[str]:
    """Return the classes in a total order: numbers by value, then others by text.

    Equal numbers, such as 1 and 01, are ordered by text.
    """
    return sorted(set(labels), key=_order)


def _order(label: str) -> tuple[bool, Decimal, str]:
    number = is_number(label)
    return not number, Decimal(label) if number else Decimal(0), label


class ClassLookup:
    """The index of a label among given classes, however its format spells it."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._index = {name: index for index, name in enumerate(self.classes)}
        self._by_form: Mapping[str, int] = {
            _form(name): index for index, name in reversed(list(enumerate(self.classes)))
        }

    def get(self, label: str) -> int | None:
        """Return the index of a label; None if it is not among the classes."""
        index = self._index.get(label)
        return self._by_form.get(_form(label)) if index is None else index


def _form(label: str) -> str:
    label = canonical_label(label)
    return label.lower() if label.lower() in _BOOLEANS else label


class LabelEncoder:
    """Turn labels into indices of classes, as they arrive: the classes are known or found."""

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        """Start without labels; `classes` are those known, None if the labels are the classes."""
        self._known = None if classes is None else ClassLookup(classes)
        self._number_of_label: dict[str, int] = {}  # in order of first appearance
        self._numbers = array("I")  # of the label of each row

    def __len__(self) -> int:
        return len(self._numbers)

    def fault(self, label: str, option: str = "data.class_names") -> str | None:
        """Return why a label cannot be used, or None; `option` names the classes."""
        if self._known is not None and self._known.get(label) is not None:
            return None
        if label in MISSING_LABELS:
            return f"missing label {label!r} (if it is a class, list all classes in {option})"
        if self._known is not None:
            return f"unknown label {label!r}; the classes are: {', '.join(self._known.classes)}"
        return None

    def add(self, label: str) -> None:
        """Append the label of a row, without a fault."""
        self._numbers.append(self._number_of_label.setdefault(label, len(self._number_of_label)))

    @property
    def has_many_classes(self) -> bool:
        """Whether the labels cannot be classes: so many that they need much memory."""
        count = len(self._number_of_label)
        return count > _MANY_CLASSES and 2 * count > len(self) and self.problem is not None

    @property
    def problem(self) -> str | None:
        """Why the labels found are not classes: "60 different labels in 60 rows: ..."; or None."""
        labels, rows = self._number_of_label, len(self)
        if self._known is not None:
            return None
        problem = class_problem(labels.keys(), rows)
        return problem and f"{len(labels):,} different labels in {rows:,} rows: {problem}"

    def finish(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the index of each row's class, int64 [rows], and the classes."""
        if self._known is not None:
            indices = [self._known.get(label) for label in self._number_of_label]
            classes = self._known.classes
        else:
            found = class_of_label(self._number_of_label)
            classes = tuple(sorted_classes(found.values()))
            index = {name: position for position, name in enumerate(classes)}
            indices = [index[found[label]] for label in self._number_of_label]
        return np.array(indices, dtype=np.int64)[np.asarray(self._numbers)], classes


def class_problem(labels: Collection[str], rows: int) -> str | None:
    """Return why these distinct labels of so many rows are not classes; None if they may be."""
    count = len(labels)
    numbers = all(map(is_number, labels))
    if numbers and count > _MAX_FRACTIONAL_CLASSES and any("." in label for label in labels):
        return "they are continuous values, and regression is not supported"
    if count > _MIN_ID_CLASSES and 2 * count > rows:
        if numbers:
            return "they are ids or continuous values, and regression is not supported"
        return "they are ids or texts"
    return None
