"""Rows of CSV are read back as they were written, whatever is in their texts."""

import csv
from pathlib import Path

from rnn_lab.runs.csv_table import csv_writer

ROWS = [["line", "text"], ["1", "one\rrow"], ["2", 'a, "b"\nc\r\nd'], ["3", "end\r\n"], ["", ""]]


def test_line_ends_in_texts_do_not_end_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv_writer(file).writerows(ROWS)
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == ROWS
    assert path.read_bytes().startswith(b'line,text\n1,"one\rrow"\n2,')
    assert path.read_bytes().endswith(b"\n,\n")
