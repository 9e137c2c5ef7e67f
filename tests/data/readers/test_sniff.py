"""Delimiters and quotes, against files that the csv module writes."""

import csv
import io

import pytest

from rnn_lab.data.readers.records import BadRow, ReadOptions, Record, RecordReader
from rnn_lab.errors import DataError

TEXTS = (
    'It\'s good, really; "very" good | said the critic',
    "nothing to see here, move on",
    "'tis a pity; she's bad",
    "plain words without any mark",
    "one\nline and another, both bad",
    "tabs and pipes | are rare in prose",
)
ROWS = [(f"{text} {i}", str(i % 2)) for i, text in enumerate(TEXTS * 8)]


def read(content: str | bytes, format: str = "csv", **options) -> tuple[list, RecordReader]:
    data = content.encode() if isinstance(content, str) else content
    reader = RecordReader(io.BytesIO(data), ReadOptions(format, **options), labelled=True)
    return list(reader), reader


def csv_text(rows, **options) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("header", [[("text", "label")], []], ids=["header", "no header"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["minimal", "all"])
@pytest.mark.parametrize("quotechar", ['"', "'"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_dialect_of_the_csv_module(delimiter, quotechar, quoting, header):
    content = csv_text([*header, *ROWS], delimiter=delimiter, quotechar=quotechar, quoting=quoting)
    found, reader = read(content)
    assert [(row.text, row.label) for row in found if isinstance(row, Record)] == ROWS
    assert reader.info.dialect.delimiter == delimiter
    assert reader.info.columns.header == bool(header)


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_NONE])
@pytest.mark.parametrize("delimiter", [";", "|", "^", "~"])
def test_prose_with_one_comma_a_row_and_no_header(delimiter, quoting):
    rows = [(f"well, film {i} was {'so good' * (i % 5)}", "ab"[i % 2]) for i in range(30)]
    rows[3] = (f"well; film, {delimiter}", "a") if quoting == csv.QUOTE_MINIMAL else rows[3]
    found, reader = read(csv_text(rows, delimiter=delimiter, quoting=quoting))
    assert [(row.text, row.label) for row in found] == rows
    assert reader.info.dialect.delimiter == delimiter


@pytest.mark.parametrize("text", ["a film", "a long and slow film, with all that it lacks"])
@pytest.mark.parametrize("delimiter", [":", "::", "\x01"])
def test_columns_that_no_known_delimiter_separates(delimiter, text):
    content = f"text{delimiter}label\n"
    content += "".join(f"{text} {'x' * i}{delimiter}good\n" for i in range(30))
    with pytest.raises(DataError, match=r"has one column, .*: set delimiter to the character"):
        read(content)
    if len(delimiter) == 1:
        assert read(content, delimiter=delimiter)[0][0] == Record(2, f"{text} ", "good")


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP = ;"])
def test_excels_first_line_names_the_delimiter(first):
    rows = [("text", "label"), ("a, b", "1"), ("c, d", "0")]
    found, reader = read(f"{first}\r\n" + csv_text(rows, delimiter=";"))
    assert [(row.line, row.text, row.label) for row in found] == [
        (3, "a, b", "1"),
        (4, "c, d", "0"),
    ]
    assert reader.info.dialect.delimiter == ";"


def test_options_decide_against_the_evidence():
    content = "text;label,x\n" + "a;b,c\n" * 30
    options = {"text_column": 0, "label_column": 1, "header": True}
    for delimiter in (";", "semicolon"):
        found, _ = read(content, delimiter=delimiter, **options)
        assert found[0] == Record(2, "a", "b,c")
    found, _ = read(content, delimiter="comma", **options)
    assert found[0] == Record(2, "a;b", "c")


def test_quotes_can_be_plain_characters():
    content = "text,label\n" + '"a" b,1\n' * 3
    found, _ = read(content)
    assert all(isinstance(row, BadRow) for row in found)
    for quotechar in ("none", ""):
        found, _ = read(content, quotechar=quotechar)
        assert found[0] == Record(2, '"a" b', "1")


def test_a_file_without_quoting_is_found_by_its_rows():
    content = "text|label\n" + "".join(f'a "fine" film|{i % 2}\n"no" film|0\n' for i in range(30))
    found, reader = read(content)
    assert reader.info.dialect.quotechar is None
    assert found[:2] == [Record(2, 'a "fine" film', "0"), Record(3, '"no" film', "0")]


def test_a_tsv_with_quoted_line_breaks():
    rows = [("text", "label"), *ROWS]
    found, _ = read(csv_text(rows, delimiter="\t"), "tsv")
    assert [(row.text, row.label) for row in found] == ROWS


def test_stray_quotes_of_a_tsv_are_plain_characters():
    content = "text\tlabel\n" + '" stray\t0\n"Stunning" they wrote\t1\n' * 20
    found, _ = read(content, "tsv")
    assert [row.text for row in found[:2]] == ['" stray', '"Stunning" they wrote']
