"""Lines of a label and a text: fastText's `__label__x text` and TREC's `LABEL:fine text`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from rnn_lab.data.readers.labels import Label, canonical_label
from rnn_lab.data.readers.lines import MAX_CHARACTERS

PREFIX = "__label__"
# coarse: the label up to its first colon; labels: any number of fastText's
COLUMNS = ("label", "text", "coarse", "labels")
_FASTTEXT_LABEL = re.compile(rf"(?<!\S){PREFIX}(\S+)\s*")
_COARSE_AND_FINE = re.compile(r"[\w-]+:[\w-]+")
_MIN_LINES = 5
_MALFORMED = 0.02  # share of the lines without a text
_MIN_REPEATS = 10  # mean number of lines of each label, where its form is no evidence
_MAX_CLASSES = 10  # likewise


def split_label(line: str) -> tuple[str, str] | str:
    """Return label and text of a line, or why it has none."""
    parts = line.split(maxsplit=1)
    if len(parts) < 2:
        return "has a label but no text" if parts else "empty line"
    return parts[0], parts[1].rstrip("\r\n")


def split_fasttext(line: str) -> tuple[tuple[str, ...], str] | str:
    """Return the labels of a line, which may be none, and its text; or why it has no text."""
    labels = tuple(dict.fromkeys(map(canonical_label, _FASTTEXT_LABEL.findall(line))))
    text = _FASTTEXT_LABEL.sub("", line).rstrip("\r\n")
    return (labels, text) if text.strip() else "has a label but no text"


def label_lines(
    lines: Iterable[tuple[int, str]], *, fasttext: bool, several: bool
) -> Iterator[tuple[int, tuple[Label, str] | str]]:
    """Yield number, label and text of the lines that are not blank, or why a line has none.

    `fasttext` lines mark their labels by PREFIX. With `several` a label is a tuple of any number.
    """
    for number, line in lines:
        if not line.strip():
            continue
        if len(line) > MAX_CHARACTERS:
            yield number, f"longer than {MAX_CHARACTERS:,} characters"
            continue
        if not fasttext:
            row = split_label(line)
            found = (row[0],) if several else row[0]
            yield number, row if isinstance(row, str) else (found, row[1])
            continue
        marked = split_fasttext(line)
        if isinstance(marked, str) or several:
            yield number, marked
        elif len(marked[0]) == 1:
            yield number, (marked[0][0], marked[1])
        elif marked[0]:
            yield number, "has more than one label; label_column=labels reads any number"
        else:
            yield number, f"has no {PREFIX}"


def is_fasttext(lines: Iterable[str]) -> bool:
    """Return whether at least half of the lines begin with a label of fastText."""
    marked = [line.lstrip().startswith(PREFIX) for line in lines if line.strip()]
    return 2 * sum(marked) >= len(marked) > 0


def has_several(lines: Iterable[str]) -> bool:
    """Return whether some line of fastText has several labels."""
    return any(len(_FASTTEXT_LABEL.findall(line)) > 1 for line in lines)


def are_label_lines(lines: Iterable[str], *, by_form: bool) -> bool:
    """Return whether these lines evidently begin with a label.

    `by_form` asks for labels of fastText's or TREC's form, else few short words begin all lines.
    Such words that are capitalized alone, as questions begin with "What" and "Who", are no
    evidence.
    """
    lines = list(lines)
    if by_form and is_fasttext(lines):
        return True
    labels: Counter[str] = Counter()
    malformed = 0
    for line in lines:
        parts = line.split(maxsplit=1)
        if len(parts) > 1:
            labels[parts[0]] += 1
        malformed += len(parts) == 1
    total = labels.total()
    if not total or malformed > _MALFORMED * total:
        return False
    repeats = total / len(labels)
    if by_form:
        is_trec = all(_COARSE_AND_FINE.fullmatch(label) for label in labels)
        return is_trec and total >= _MIN_LINES and repeats >= 2
    is_word = any(label.istitle() for label in labels)
    return 2 <= len(labels) <= _MAX_CLASSES and repeats >= _MIN_REPEATS and not is_word
