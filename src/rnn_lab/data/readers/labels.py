"""Labels in one form for all formats, and their order as classes."""

import ast
import json
import math
import re
import unicodedata
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

# Those of pandas, and other cases of nan and null. "none" is not among them: data sets have classes
# of that name.
MISSING_LABELS = frozenset(
    {"", "None", "NA", "N/A", "n/a", "<NA>", "#NA", "#N/A", "#N/A N/A", "NaT"}
    | {"nan", "NaN", "NAN", "Nan", "-nan", "-NaN", "null", "NULL", "Null"}
    | {"1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
)
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"  # byte order mark, zero width, text direction
_WHOLE = re.compile(r"(-?)(0|[1-9][0-9]*)\.0+")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_PLAIN_NUMBER = re.compile(
    r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?"
)  # not 01: an id
_BOOLEANS = frozenset({"true", "false"})
_INDICATORS = {"0": False, "false": False, "1": True, "true": True}

# The class of a text; or, where a text has several labels, those that it has, perhaps none.
Label = str | tuple[str, ...]

# The separator of cells that are lists: ['news', 'tech'], ["news", "tech"] or ['news' 'tech'].
LIST = "list"
_ITEM = (
    r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|"""
    r"[-+]?[0-9]++(?:\.[0-9]*+)?(?:[eE][-+]?[0-9]++)?|true|false|null|True|False|None"
)
# Flat: a list within a list, which an untrusted file could nest deeply, is not parsed.
_LIST = re.compile(rf"\[\s*+(?:(?:{_ITEM})(?:(?:\s*+,\s*+|\s++)(?:{_ITEM}))*+\s*+)?\]")

_SEPARATORS = {"semicolon": ";", "pipe": "|", "comma": ","}  # that usually join labels

_MIN_ID_CLASSES = 10  # below, more classes than half the rows are a small data set
_MAX_FRACTIONAL_CLASSES = 20
_MANY_CLASSES = 100_000  # checked while a file is read


def canonical_label(label: str) -> str:
    """Return a label as every format spells it: stripped, composed as in NFC, and 1 for 1.0."""
    label = label.strip()
    if not label.isascii():  # names of files are decomposed on a Mac
        label = unicodedata.normalize("NFC", label).strip(_INVISIBLE).strip()
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
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # of NumPy or torch
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


def option_label(value: Any) -> Any:
    """Return a value of a list on the command line as the label that was typed, if it is a scalar.

    Hydra reads `[0,true,nan,null]` as a number, a boolean, a float that is not finite, and None.
    """
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return label_text(value) if isinstance(value, bool | int | float) else value


def label_or_labels(value: Any) -> Label:
    """Return a value of JSON, Arrow or Python as a label, or a list of them as labels.

    Raises:
        TypeError: a label cannot be of that type.
    """
    if isinstance(value, list | tuple | set | frozenset) or getattr(value, "ndim", 0) == 1:
        return tuple(dict.fromkeys(label_text(item) for item in value))
    return label_text(value)


def split_labels(cell: str, separator: str) -> tuple[str, ...]:
    """Return the distinct labels in a cell, in order; none in an empty one.

    Raises:
        ValueError: the separator is LIST, and the cell is no list.
    """
    if separator == LIST:
        labels = parse_list(cell) if cell.strip() else ()
        if labels is None:
            raise ValueError(
                f"{cell[:40]!r} is not a list of labels such as ['news', 'tech']; "
                "data.label_separator names what separates the labels in a cell"
            )
        return labels
    parts = map(canonical_label, cell.split(separator))
    return tuple(dict.fromkeys(part for part in parts if part))


def join_labels(labels: Sequence[str], separator: str) -> str:
    """Return labels as one cell, from which `split_labels` reads them."""
    if separator == LIST:
        return json.dumps(labels, ensure_ascii=False)
    return separator.join(labels)


def joining_separator(labels: Iterable[str], separator: str) -> str:
    """Return what any of the labels can be joined with: `separator`, or LIST if one contains it.

    So does the label "a-" with the separator "--": "a---b" has two places to split.
    """
    is_clear = all((label + separator).find(separator) == len(label) for label in labels)
    return separator if is_clear else LIST


def parse_list(cell: str) -> tuple[str, ...] | None:
    """Return the labels in a cell that is a list in JSON, or as Python or NumPy prints it."""
    if not _LIST.fullmatch(cell := cell.strip()):
        return None
    found = []
    for item in re.findall(_ITEM, cell):  # one by one: Python joins 'a' 'b' to one text
        for parse in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError):
                found.append(label_text(parse(item)))
                break
        else:
            return None
    return tuple(dict.fromkeys(found))


class JoinedLabels(NamedTuple):
    """What evidently joins several labels to one."""

    separator: str  # as data.label_separator names it
    evidence: str  # "3 of 5 classes have ; in their names, which separates 3 labels"


def find_joined_labels(labels: Collection[str]) -> JoinedLabels | None:
    """Return how labels are joined; None: not evidently.

    Joined labels have fewer parts than there are labels, unlike names of classes with a comma.
    """
    if all(is_number(label.replace(",", ".")) for label in labels):
        return None
    lists = {label for label in labels if label[:1] == "[" and parse_list(label) is not None}
    if 2 * len(lists) > len(labels):
        evidence = f"{len(lists):,} of {len(labels):,} classes are lists of labels"
        other = next((label for label in labels if label not in lists), None)
        if other is not None:
            evidence += f", and {other[:40]!r} is not"
        return JoinedLabels(LIST, evidence)
    for separator, character in _SEPARATORS.items():
        num_joined = sum(character in label for label in labels)
        parts = {part for label in labels for part in split_labels(label, character)}
        if num_joined > 1 and len(parts) < len(labels):
            evidence = f"{num_joined:,} of {len(labels):,} classes have {character} in their names"
            return JoinedLabels(separator, f"{evidence}, which separates {len(parts):,} labels")
    return None


def indicated_labels(names: Sequence[str], values: Sequence[Any]) -> tuple[str, ...]:
    """Return the names whose values are 1 (or true), of columns of 0 and 1.

    Raises:
        ValueError: a value is neither.
    """
    found = []
    for name, value in zip(names, values, strict=True):
        try:
            text = label_text(value)
        except TypeError:
            text = type(value).__name__
        has_label = _INDICATORS.get(text.lower())
        if has_label is None:
            raise ValueError(f"{name!r} is {text!r} and neither 0 nor 1")
        if has_label:
            found.append(name)
    return tuple(found)


def is_indicator(label: str) -> bool:
    """Return whether a label is 0 or 1, or false or true."""
    return canonical_label(label).lower() in _INDICATORS


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
        self._by_form: Mapping[str | Decimal, int] = {
            _form(name): index for index, name in reversed(list(enumerate(self.classes)))
        }

    def get(self, label: str) -> int | None:
        """Return the index of a label; None if it is not among the classes."""
        index = self._index.get(label)
        return self._by_form.get(_form(label)) if index is None else index

    def find_alike(self, label: str) -> str | None:
        """Return the class that differs from a label only in case or spaces."""
        return next((name for name in self.classes if fold_case(name) == fold_case(label)), None)


def fold_case(label: str) -> str:
    """Return what labels that differ only in case or spaces have in common."""
    return " ".join(label.casefold().split())


def _form(label: str) -> str | Decimal:
    """Return what the spellings of a label in different formats have in common."""
    if _PLAIN_NUMBER.fullmatch(label := canonical_label(label)):
        return Decimal(label)  # the text 1.50 of CSV is the number 1.5 of JSON
    return label.lower() if label.lower() in {*_BOOLEANS, "nan", "null"} else label


class _Encoder:
    """The labels of rows as they arrive: their classes are known or found."""

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        """Start without labels; `classes` are those known, None if the labels are the classes."""
        self._known = None if classes is None else ClassLookup(classes)
        self._number_of_label: dict[str, int] = {}  # in order of first appearance
        self._numbers = array("I")  # of the labels of all rows, row after row

    def __len__(self) -> int:
        """Return the number of rows."""
        raise NotImplementedError

    def _label_fault(self, label: str, option: str) -> str | None:
        if self._known is not None and self._known.get(label) is not None:
            return None
        if label in MISSING_LABELS:
            return f"missing label {label!r} (if it is a class, list all classes in {option})"
        if self._known is not None:
            alike = self._known.find_alike(label)
            hint = "" if alike is None else f" (did you mean {alike!r}?)"
            classes = ", ".join(self._known.classes)
            return f"unknown label {label!r}{hint}; the classes are: {classes}"
        return None

    def _add_label(self, label: str) -> None:
        self._numbers.append(self._number_of_label.setdefault(label, len(self._number_of_label)))

    @property
    def labels(self) -> Collection[str]:
        """The distinct labels, in order of first appearance."""
        return self._number_of_label.keys()

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

    def _indices(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the index of each label's class, int64 [labels of all rows], and the classes."""
        if self._known is not None:
            indices = [self._known.get(label) for label in self._number_of_label]
            classes = self._known.classes
        else:
            found = class_of_label(self._number_of_label)
            classes = tuple(sorted_classes(found.values()))
            index = {name: position for position, name in enumerate(classes)}
            indices = [index[found[label]] for label in self._number_of_label]
        return np.array(indices, dtype=np.int64)[np.asarray(self._numbers)], classes


class LabelEncoder(_Encoder):
    """Turn labels, one a row, into indices of classes."""

    def __init__(self, classes: Sequence[str] | None = None, *, in_lists: bool = False) -> None:
        """Start without labels; `in_lists`: each is in a list of one."""
        super().__init__(classes)
        self.in_lists = in_lists

    def for_next(self, classes: Sequence[str]) -> "LabelEncoder":
        """Return an encoder of further rows, whose labels have the same form."""
        return LabelEncoder(classes, in_lists=self.in_lists)

    def __len__(self) -> int:
        return len(self._numbers)

    def fault(self, label: Label, option: str = "data.class_names") -> str | None:
        """Return why a label cannot be used, or None; `option` names the classes."""
        if isinstance(label, str) == self.in_lists:
            return _another_form(label)
        if not isinstance(label, str):
            if len(label) != 1:
                count = f"{len(label)} labels" if label else "no label"
                return (
                    f"has {count}, and the texts before it have one each; "
                    f"data.label_separator={LIST} reads lists of any number"
                )
            (label,) = label
        return self._label_fault(label, option)

    def add(self, label: Label) -> None:
        """Append the label of a row, without a fault."""
        self._add_label(label if isinstance(label, str) else label[0])

    def finish(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the index of each row's class, int64 [rows], and the classes."""
        return self._indices()


class LabelSetEncoder(_Encoder):
    """Turn the labels of each row, any number of them, into one column of 0 and 1 a class."""

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        super().__init__(classes)
        self._counts = array("I")  # labels of each row

    def for_next(self, classes: Sequence[str]) -> "LabelSetEncoder":
        """Return an encoder of further rows, whose labels have the same form."""
        return LabelSetEncoder(classes)

    def one_each(self) -> LabelEncoder | None:
        """Return the encoder of the same rows if each has one label, which is then its class."""
        if set(self._counts) != {1}:
            return None
        encoder = LabelEncoder(in_lists=True)
        encoder._known, encoder._numbers = self._known, self._numbers
        encoder._number_of_label = self._number_of_label
        return encoder

    def __len__(self) -> int:
        return len(self._counts)

    def fault(self, labels: Label, option: str = "data.class_names") -> str | None:
        """Return why the labels of a row cannot be used, or None; `option` names the classes."""
        if isinstance(labels, str):
            return _another_form(labels)
        faults = (self._label_fault(label, option) for label in labels)
        return next(filter(None, faults), None)

    def add(self, labels: Label) -> None:
        """Append the labels of a row, without a fault."""
        assert not isinstance(labels, str)
        for label in labels:
            self._add_label(label)
        self._counts.append(len(labels))

    @property
    def problem(self) -> str | None:
        """Why the labels found are not classes, or None."""
        if self._known is None and {*self._number_of_label} <= {*_INDICATORS}:
            found = ", ".join(self._number_of_label) or "no label"
            return f"{found} where lists of labels are expected: they name no class"
        return super().problem

    def finish(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return whether each row has each class, uint8 [rows, classes], and the classes."""
        indices, classes = self._indices()
        found = np.zeros((len(self), len(classes)), dtype=np.uint8)
        found[np.repeat(np.arange(len(self)), np.asarray(self._counts)), indices] = 1
        return found, classes


def _another_form(label: Label) -> str:
    """Return the fault of a label that is a list where those before it are not, or vice versa."""
    if isinstance(label, str):
        return f"has the label {label!r} and no list of labels, as the texts before it have"
    return "has a list of labels, and the texts before it have one label each"


def encoder_for(label: Label) -> type[LabelEncoder | LabelSetEncoder]:
    """Return the encoder of labels such as `label`, that of a first row."""
    return LabelEncoder if isinstance(label, str) else LabelSetEncoder


def class_problem(labels: Collection[str], rows: int) -> str | None:
    """Return why these distinct labels of so many rows are not classes; None if they may be."""
    count = len(labels)
    points = [label.replace(",", ".") for label in labels]  # a decimal comma
    numbers = all(map(is_number, points))
    if numbers and count > _MAX_FRACTIONAL_CLASSES and any("." in label for label in points):
        return "they are continuous values, and regression is not supported"
    if count > _MIN_ID_CLASSES and 2 * count > rows:
        if numbers:
            return "they are ids or continuous values, and regression is not supported"
        return "they are ids or texts"
    return None
