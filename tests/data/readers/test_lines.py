import gc
import io
import os

import pytest

from rnn_lab.data.readers.lines import MAX_CHARACTERS, numbered_lines
from rnn_lab.data.readers.records import BadRow, ReadOptions, Record, RecordReader
from rnn_lab.errors import DataError


def read(content: bytes, format: str, *, labelled: bool = False, **options):
    options = ReadOptions(format, **{"encoding": "utf-8"} | options)
    return list(RecordReader(io.BytesIO(content), options, labelled=labelled))


def lines_of(content: bytes, encoding: str = "utf-8", newline: str = "\n") -> list[str]:
    found = list(numbered_lines(io.BytesIO(content), "x", encoding, newline))
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    return [text for _, text in found]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "txt"])
def test_every_line_end_ends_a_line(format, end):
    texts = ["one", "two\u2028still two\x0b\x85", "three"]
    rows = [f'{{"text": "{text}"}}' if format == "jsonl" else text for text in texts]
    rows = [row.replace("\x0b", "\\u000b") if format == "jsonl" else row for row in rows]
    header = ["text"] if format in ("csv", "tsv") else []
    for last in ("", end):
        found = read((end.join([*header, *rows]) + last).encode(), format)
        assert [row.text for row in found] == texts
        first = 1 + len(header)
        assert [row.line for row in found] == [first, first + 1, first + 2]


def test_a_lone_return_within_a_text_does_not_cut_it_in_two():
    assert [row.text for row in read(b"one\nt\rwo\r\nthree", "txt")] == ["one", "t\rwo", "three"]


def test_returns_are_line_ends_however_many_there_are():
    content = b"".join(b"text %d\r" % i for i in range(20_000))
    assert lines_of(content) == [f"text {i}\r" for i in range(20_000)]


@pytest.mark.parametrize("encoding", ["utf-8", "U8", "utf_8_sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_byte_order_mark_is_dropped_from_every_encoding(encoding):
    marked = "" if encoding in ("utf_8_sig", "utf-16", "utf-32") else "\ufeff"
    assert lines_of(f"{marked}one\n\ufefftwo".encode(encoding), encoding) == ["one\n", "\ufefftwo"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_what_cannot_be_decoded_costs_its_own_line(encoding):
    half = "\ud83d".encode(encoding, "surrogatepass")
    content = "one\nt".encode(encoding) + half + "wo\nthree\nfour".encode(encoding) + b"\0"
    first, second, third, fourth = read(content, "txt", encoding=encoding)
    assert (first, third) == (Record(1, "one", None), Record(3, "three", None))
    assert isinstance(second, BadRow)
    assert f"is not {encoding}: byte 0x" in second.reason
    assert isinstance(fourth, BadRow)


def test_utf_16_read_as_utf_8_is_reported():
    first, *others = read("good film\nbad film\n".encode("utf-16"), "txt")
    assert first == BadRow(1, "is not utf-8: byte 0xff (is the file utf-16?)")
    assert {row.reason for row in others} == {"contains a NUL character (is the file utf-8?)"}


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "txt"])
def test_a_line_without_an_end_in_sight_is_passed_over(format):
    row = b'{"text": "%b"}\n' if format == "jsonl" else b"%b\n"
    header = b"text\n" if format in ("csv", "tsv") else b""
    long = b"long " * (MAX_CHARACTERS // 5 + 100_000)
    found = read(header + row % b"before" + row % long + row % b"after", format)
    before = 2 if header else 1
    assert found[0] == Record(before, "before", None)
    assert found[2:] == [Record(before + 2, "after", None)]
    assert isinstance(found[1], BadRow)
    assert found[1].line == before + 1
    assert "longer than 16,777,216 characters" in found[1].reason


def test_a_row_of_csv_without_an_end_in_sight_costs_no_other():
    """Every line and every field is short, but the row does not end."""
    piece = b'","'.join([b"x" * 100_000] * 10)
    content = b'text,label\n"' + b"\n".join([piece] * 20) + b"\ngood,1\n"
    *broken, last = read(content, "csv", labelled=True)
    assert last == Record(22, "good", "1")
    assert [row.line for row in broken] == list(range(2, 22))
    assert all(isinstance(row, BadRow) for row in broken)
    assert "row longer than" in broken[0].reason


@pytest.mark.parametrize("closing", ["", '5"', '"'], ids=["never", "late", "bare"])
def test_what_stray_quotes_swallow_is_read_after_all(closing):
    """It would take hours to read again everything that each quote swallows, for every line."""
    swallowed = b"swallowed,1\n" * 8_000
    content = b'text,label\n"0,1,' + b'\n"1,1,'.join([swallowed] * 3) + closing.encode()
    found = read(content, "csv", labelled=True)
    assert sum(isinstance(row, Record) for row in found) >= 23_997
    assert [row.line for row in found] == sorted({row.line for row in found})
    assert "broken quotes" in found[0].reason


def test_a_row_of_several_lines_with_a_column_too_many_stays_one():
    content = b'text,label\n"one\ntwo, and\nthree\nfour",1,2\ngood,1\n'
    assert [row.line for row in read(content, "csv", labelled=True)] == [2, 6]


def test_a_stream_that_fails_names_the_line():
    # The memory of this process: it can be opened, but its first page cannot be read.
    with (
        open("/proc/self/mem", "rb") as stream,  # noqa: PTH123
        pytest.raises(DataError, match=r"mem:1: cannot be read: Input/output error"),
    ):
        list(RecordReader(stream, ReadOptions("txt", "utf-8"), labelled=False))


@pytest.mark.filterwarnings("error")
def test_a_pipe_is_read_as_it_is_written():
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as stream, os.fdopen(theirs, "wb", buffering=0) as writer:
        rows = iter(RecordReader(stream, ReadOptions("txt", "utf-8"), labelled=False))
        writer.write(b"one\n" * 5_000)
        assert next(rows) == Record(1, "one", None)
    del rows  # after its stream
    gc.collect()
