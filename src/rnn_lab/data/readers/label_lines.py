"""Lines of a label and a text: fastText's `__label__x text` and TREC's `LABEL:fine text`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from rnn_lab.data.readers.lines import MAX_CHARACTERS

PREFIX = "__label__"
COLUMNS = ("label", "text", "coarse")  # coarse: the label up to its first colon
_COARSE_AND_FINE = re.compile(r"[\w-]+:[\w-]+")
_MIN_LINES = 5
_MALFORMED = 0.02  # share of the lines without a text
_MIN_REPEATS = 10  # mean number of lines of each label, where its form is no evidence
_MAX_CLASSES = 10  # likewise


def split_label(line: str) -> tuple[str, str] | str:
    """Return label and text of a line, or why it has none."""
    if len(line) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS:,} characters"
    parts = line.split(maxsplit=1)
    if len(parts) < 2:
        return "has a label but no text" if parts else "empty line"
    label, text = parts
    if label.startswith(PREFIX):
        if text.startswith(PREFIX):
            return "has more than one label; one label for each text is supported"
        label = label.removeprefix(PREFIX)
    return label, text.rstrip("\r\n")


def label_lines(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, tuple[str, str] | str]]:
    """Yield number and content (see `split_label`) of the lines that are not blank."""
    for number, line in lines:
        if line.strip():
            yield number, split_label(line)


def are_label_lines(lines: Iterable[str], *, by_form: bool) -> bool:
    """Return whether these lines evidently begin with a label.

    `by_form` asks for labels of fastText's or TREC's form, else few short words begin all lines.
    Such words that are capitalized alone, as questions begin with "What" and "Who", are no
    evidence.
    """
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
        is_fasttext = all(label.startswith(PREFIX) for label in labels)
        return is_fasttext or (is_trec and total >= _MIN_LINES and repeats >= 2)
    is_word = any(label.istitle() for label in labels)
    return 2 <= len(labels) <= _MAX_CLASSES and repeats >= _MIN_REPEATS and not is_word
