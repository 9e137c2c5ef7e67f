"""Formats of files: by the ending, or by the first lines of a text file."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from rnn_lab.data.readers.binary import decompressed_name
from rnn_lab.data.readers.columns import DEFAULT_TEXT_COLUMNS
from rnn_lab.data.readers.label_lines import are_label_lines
from rnn_lab.data.readers.sniff import DELIMITERS, Lines, consistent_width
from rnn_lab.data.readers.tables import Dialect
from rnn_lab.errors import DataError

Format = Literal["txt", "csv", "tsv", "jsonl", "json", "label_text", "parquet", "arrow"]

FORMAT_BY_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": "txt",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_LINES = 1000
_TABLE = 0.98  # share of the rows of a .txt file with the same number of columns
_MIN_ROWS = 5


def infer_format(path: str | Path) -> Format:
    """Return the format for the ending of a file. Raises DataError for an unknown ending."""
    format = known_format(path)
    if format is None:
        choices = ", ".join(FORMAT_BY_SUFFIX)
        raise DataError(f"{path}: unknown file ending; choose from: {choices}")
    return format


def known_format(path: str | Path) -> Format | None:
    """Return the format for the ending of a file, before `.gz` or `.zst`; None: unknown."""
    return FORMAT_BY_SUFFIX.get(Path(decompressed_name(path)).suffix.lower())


def infer_labelled_format(lines: Lines) -> Format | None:
    """Return the format of a labelled text file without a telling ending; None: not plain."""
    first = [text for _, text in islice(lines(), _LINES)]
    if any("\0" in line for line in first):
        return None
    if are_label_lines(first, by_form=True):
        return "label_text"
    if is_json_lines(iter(first)):
        return "jsonl"
    if len(first) >= _MIN_ROWS:
        for delimiter in ("\t", *(d for d in DELIMITERS if d != "\t")):
            for multiline in (False, True):
                width, share = consistent_width(lines, Dialect(delimiter, multiline=multiline))
                if width > 1 and share >= _TABLE:
                    return "tsv" if delimiter == "\t" else "csv"
    return "label_text" if are_label_lines(first, by_form=False) else None


def infer_unlabelled_format(line: str) -> Format | None:
    """Return the format whose first `line` this evidently is; None: it may be plain text.

    A JSON object, or a header with a common name of a column of texts.
    """
    try:
        if isinstance(json.loads(line), dict):
            return "jsonl"
    except (ValueError, RecursionError):
        pass
    for delimiter in DELIMITERS:
        names = [cell.strip(' "').lower() for cell in line.split(delimiter)]
        if len(names) > 1 and not {*names}.isdisjoint(DEFAULT_TEXT_COLUMNS):
            return "tsv" if delimiter == "\t" else "csv"
    return None


def is_json_lines(lines: Iterator[str]) -> bool:
    """Return whether each of the first two lines is a JSON object, and not one of columns."""
    found = [line.strip() for line in islice((line for line in lines if line.strip()), 2)]
    if not found or not all(line.startswith("{") and line.endswith("}") for line in found):
        return False
    if len(found) > 1:
        return True
    try:
        row = json.loads(found[0])
    except (ValueError, RecursionError):
        return True
    if any(isinstance(row.get(name), str) for name in DEFAULT_TEXT_COLUMNS):
        return True
    return not any(isinstance(value, list | dict) for value in row.values())
