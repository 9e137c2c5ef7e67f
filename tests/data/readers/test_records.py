import csv
import gzip
import io
import json
import tracemalloc

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rnn_lab.data.readers.binary import describe_binary
from rnn_lab.data.readers.records import BadRow, ReadOptions, Record, RecordReader, infer_format
from rnn_lab.errors import DataError


def read(content: str | bytes, format: str = "csv", *, labelled: bool = True, **options):
    data = content.encode() if isinstance(content, str) else content
    options = ReadOptions(format, **{"encoding": "utf-8"} | options)
    return list(RecordReader(io.BytesIO(data), options, labelled=labelled))


def test_csv_rows_carry_the_line_they_start_on():
    rows = read('review,label\r\n"two\nlines, one ""row""",1\r\n\r\nplain,0')
    assert rows == [Record(2, 'two\nlines, one "row"', "1"), Record(5, "plain", "0")]


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "txt"])
def test_a_byte_order_mark_is_dropped(format):
    content = {
        "csv": "text,label\nok,1\n",
        "tsv": "text\tlabel\nok\t1\n",
        "jsonl": '{"text": "ok", "label": 1}\n',
        "txt": "ok\n",
    }[format]
    (row,) = read(b"\xef\xbb\xbf" + content.encode(), format)
    assert row.text == "ok"


def test_broken_csv_rows_are_reported_and_the_rows_after_them_read():
    rows = read(b"text,label\nshort\n,1\nno label,\n\xff\xfe,1\nnul\0,1\na,b,c\nend,0\n")
    assert rows == [
        BadRow(2, "1 columns where the header has 2"),
        BadRow(3, "empty text"),
        BadRow(4, "empty label"),
        BadRow(5, "is not utf-8: byte 0xff (is the file utf-16?)"),
        BadRow(6, "contains a NUL character (is the file utf-8?)"),
        BadRow(7, "3 columns where the header has 2"),
        Record(8, "end", "0"),
    ]


@pytest.mark.parametrize("tail", ['"quoted, text",1\n', "plain,1\n"])
def test_a_stray_quote_costs_its_own_row_only(tail):
    first, *rest = read('text,label\n"never closed,0\ngood,1\n' + tail)
    assert isinstance(first, BadRow)
    assert first.line == 2
    assert "quotes" in first.reason
    assert [row.line for row in rest] == [3, 4]
    assert rest[0] == Record(3, "good", "1")


def test_a_field_of_a_million_characters_is_read():
    (row,) = read(f"text,label\n{'a ' * 500_000},1\n")
    assert len(row.text) == 1_000_000


def test_tsv_quotes_are_plain_characters_where_they_do_not_balance():
    rows = read('text\tlabel\n"Stunning" they said\t1\n" stray\t0\n"a ""quoted"" one"\t1\n', "tsv")
    assert [row.text for row in rows] == ['"Stunning" they said', '" stray', 'a "quoted" one']


def test_jsonl_rows():
    lines = [
        '{"text": "a\\nb", "label": 1}',
        "",
        '{"text": "c", "label": 2.0}',
        '{"text": "d", "label": true}',
        '{"text": 3, "label": 1}',
        '{"text": "e"}',
        '{"text": "f", "label": null}',
        '{"text": "g", "label": [[1]]}',
        "[1, 2]",
        '{"text": "half',
        '{"text": "\\ud800", "label": 1}',
        "[" * 100_000,
        '{"text": "h", "label": "yes "}',
    ]
    rows = read("\n".join(lines), "jsonl")
    good = [(row.line, row.text, row.label) for row in rows if isinstance(row, Record)]
    assert good == [(1, "a\nb", "1"), (3, "c", "2"), (4, "d", "true"), (13, "h", "yes")]
    assert [row.line for row in rows if isinstance(row, BadRow)] == [5, 6, 7, 8, 9, 10, 11, 12]


def test_plain_lines():
    rows = read("one\r\n\ntwo", "txt", labelled=False)
    assert rows == [Record(1, "one", None), BadRow(2, "empty text"), Record(3, "two", None)]


def test_unlabelled_tables_need_a_text_column_only():
    assert read("id,Review\n7,fine\n", labelled=False) == [Record(2, "fine", None, "7")]


def test_columns_are_inferred_in_any_case_and_order():
    assert read("id, Sentiment ,REVIEW\n7,pos,fine\n") == [Record(2, "fine", "pos")]


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("alpha,beta", {}, "no column has a common name for the text.*alpha, beta"),
        ("text,review,label", {}, "more than one column has a common name for the text"),
        ("text,beta", {}, "no column has a common name for the label.*one of: beta$"),
        ("text,label", {"text_column": "words"}, "no column 'words'.*text, label"),
        (
            "text,text,label",
            {"text_column": 1},
            r"more than one column 'text'; .* header=true 'columns=\[text,text_2,label\]'",
        ),
    ],
)
def test_columns_that_are_not_plain_are_listed(header, options, message):
    with pytest.raises(DataError, match=message):
        read(f"{header}\nx,y,z\n", **options)


def test_columns_of_one_name_are_told_apart_by_names_of_their_own():
    options = {"header": True, "columns": ("text", "text_2", "label"), "text_column": "text_2"}
    assert read("text,text,label\nx,y,z\n", **options) == [Record(2, "y", "z")]


def test_chosen_columns_win_over_plain_ones():
    rows = read("text,words,label,mood\na,b,c,d\n", text_column="words", label_column="mood")
    assert rows == [Record(2, "b", "d")]


def test_encodings():
    text = "text,label\nCafé,1\n"
    assert read(text.encode("utf-16"), encoding="utf-16") == [Record(2, "Café", "1")]
    assert read(text.encode("latin-1"), encoding="latin-1") == [Record(2, "Café", "1")]
    assert read(text.encode("latin-1")) == [BadRow(2, "is not utf-8: byte 0xe9")]
    with pytest.raises(DataError, match="1: is not utf-8: byte 0xff"):
        read(text.encode("utf-16"))
    with pytest.raises(DataError, match="no such text encoding: 'utf-9'"):
        read(text, encoding="utf-9")
    assert read(b"\xff\xfet\0e\0x", "txt", encoding="utf-16", labelled=False) == [
        BadRow(1, "is not utf-16: byte 0x78")
    ]


def test_files(tmp_path):
    assert infer_format("a/B.CSV") == "csv"
    with pytest.raises(DataError, match=r"reviews\.xlsx.*\.csv"):
        infer_format("reviews.xlsx")
    with pytest.raises(DataError, match=r"missing\.csv: cannot be read: No such file"):
        list(RecordReader(tmp_path / "missing.csv", ReadOptions("csv", "utf-8"), labelled=True))


@pytest.mark.parametrize(
    ("content", "kind"),
    [(gzip.compress(b"one", mtime=0), "compressed by gzip"), (b"%PDF-1.7\n", "a PDF file")],
)
def test_a_stream_that_is_no_text_is_named(content, kind):
    with pytest.raises(DataError, match=f"<stream>: is {kind}; a stream must be text"):
        list(RecordReader(io.BytesIO(content), ReadOptions(), labelled=False))


def test_a_stream_is_left_open_for_its_owner():
    stream = io.BytesIO(b"one\ntwo\n")
    list(RecordReader(stream, ReadOptions("txt", "utf-8"), labelled=False))
    assert not stream.closed


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "txt"])
def test_memory_does_not_grow_with_the_file(tmp_path, format):
    text = "some text " * 100
    line = json.dumps({"text": text}) if format == "jsonl" else text
    path = tmp_path / "large"
    path.write_text("text\n" * (format in ("csv", "tsv")) + f"{line}\n" * 2_000)
    tracemalloc.start()
    try:
        reader = RecordReader(path, ReadOptions(format, "utf-8"), labelled=False)
        count = sum(1 for _ in reader)
        assert tracemalloc.get_traced_memory()[1] < 100_000 < path.stat().st_size / 5
    finally:
        tracemalloc.stop()
    assert count == 2_000


PRINTABLE = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
).filter(str.strip)
LABEL = st.sampled_from(["0", "1", "so so"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(PRINTABLE, LABEL), max_size=8))
@example([("'", "0"), ("'", "0")])
def test_what_the_csv_module_writes_is_read_back(rows):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("text", "label"), *rows])
    found = read(file.getvalue())
    assert [(row.text, row.label) for row in found] == rows


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(PRINTABLE, LABEL), max_size=8))
def test_what_the_json_module_writes_is_read_back(rows):
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    found = read("\n".join(lines), "jsonl")
    assert [(row.text, row.label) for row in found] == rows
    assert [row.line for row in found] == list(range(1, len(rows) + 1))


def reasons(lines: list[str], **options) -> dict[int, str]:
    rows = read("\n".join(lines), "jsonl", **options)
    return {row.line: row.reason for row in rows if isinstance(row, BadRow)}


def test_strange_json_costs_its_own_line():
    lines = [
        '{"text": "good", "label": "yes"}',
        '{"text": "good", "text": "bad", "label": "yes"}',
        '{"text": "good", "label": "yes", "label": "no"}',
        '{"text": "good", "label": NaN}',
        '{"text": "good", "label": -Infinity}',
        '{"text": %s, "label": 1}' % ("[" * 900 + "]" * 900),
        '{"text": "good", "label": %s}' % ("[" * 900 + "]" * 900),
        '{"text": "good", "label": 1, "id": %s}' % ("9" * 5_000),
        '{"text": "a\\udc41", "label": 1}',
        '{"text": "\\u0000", "label": 1}',
        '{"text": "good", "label": 1,}',
    ]
    found = reasons(lines)
    assert list(found) == list(range(2, 12))
    assert found[2] == "has 'text' more than once"
    assert found[3] == "has 'label' more than once"
    assert found[4] == found[5] == "empty label"
    assert found[8] == "is not read: contains an integer with thousands of digits"
    assert found[9] == "contains half a surrogate pair"
    assert found[10] == "contains a NUL character"
    assert found[11].startswith("is not JSON: ")
    assert found[11].endswith(" at column 29")


def test_deeply_nested_json_has_a_short_message():
    lines = [f'{{"text": {"[" * depth + "]" * depth}, "label": 1}}' for depth in (3, 900, 100_000)]
    found = reasons(lines)
    assert found[1] == found[2] == "'text' is not a string: a list"
    assert found[3] == "is not read: nested too deeply"


def test_harmless_duplicates_and_numbers_cost_no_answer():
    line = '{"text": "good", "score": NaN, "meta": {"a": 1, "a": 2}, "n": 1e999, "id": 7}'
    assert read(line, "jsonl", labelled=False) == [Record(1, "good", None, 7)]


def test_the_first_json_row_that_names_its_text_settles_the_columns():
    lines = ['{"version": 1}', "half {", '{"body": "good"}', '{"review": "bad", "body": "fine"}']
    found = read("\n".join(lines), "jsonl", labelled=False)
    assert [row.line for row in found] == [1, 2, 3, 4]
    assert (
        "no column has a common name for the text; set text_column to one of: version"
        in found[0].reason
    )
    assert found[2:] == [Record(3, "good", None), Record(4, "fine", None)]
    with pytest.raises(DataError, match=r"<stream>:1: no column has a common name.*version"):
        read("\n".join(lines[:2]), "jsonl", labelled=False)


def test_a_row_that_swallowed_lines_says_which():
    found = read('text,label\n"one\ntwo\nthree",1,2\ngood,1\n')
    assert found == [
        BadRow(2, "3 columns where the header has 2, over lines 2 to 4"),
        Record(5, "good", "1"),
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_the_header_in_a_file_of_joined_files_is_no_row(mark, ending):
    rows = [("text", "label"), *((f"film {i} was {'so ' * i}good", "ab"[i % 2]) for i in range(9))]
    part = "".join(f"{text}{',' if ending == 'csv' else chr(9)}{label}\n" for text, label in rows)
    found = read(part + mark + part, ending)
    assert [(row.text, row.label) for row in found if isinstance(row, Record)] == rows[1:] * 2
    assert found[9] == BadRow(11, "repeats the header, as where files are joined")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a good film\nbad\n", {}, ":1: no column has a common name for the text.*: a good film"),
        ("text,Text\na,b\n", {}, ":1: more than one column has a common name for the text"),
        ('"text\na\n', {}, ":1: broken quotes"),
        ("te\0xt\na\n", {}, ":1: contains a NUL"),
        (",".join(f"c{i}" for i in range(5_000)), {}, "c19 and 4,980 more$"),
    ],
    ids=["no header", "two of a name", "an open quote", "a NUL", "5,000 columns"],
)
def test_an_invalid_header(content, options, message):
    with pytest.raises(DataError, match=message):
        read(content, labelled=False, **options)


def test_messages_are_one_line_that_a_terminal_shows_as_it_is():
    with pytest.raises(DataError) as caught:
        read('"a\x1b[2Jb\u202e\nc",d\n1,2\n', labelled=False)
    assert str(caught.value).isprintable()
    assert r"a\x1b[2Jb\u202e\nc, d" in str(caught.value)


GARBAGE = st.binary(max_size=30).map(lambda line: line.translate(None, b'\n\r"'))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(GARBAGE, st.none()), max_size=12), st.sampled_from(["csv", "jsonl"]))
def test_garbage_costs_no_line_but_its_own(lines, format):
    good = b'{"text": "good", "label": 1}' if format == "jsonl" else b"good,1"
    header = b"" if format == "jsonl" else b"text,label\n"
    content = header + b"\n".join(good if line is None else line for line in lines)
    assume(describe_binary(content) is None)
    found = read(content, format)
    numbers = [row.line for row in found]
    assert numbers == sorted(set(numbers))
    first = 2 if header else 1
    expected = {first + place for place, line in enumerate(lines) if line is None}
    assert expected <= {row.line for row in found if isinstance(row, Record)}


def test_a_list_over_the_lines_of_a_jsonl_file_names_the_format():
    (row, *_) = read('[\n{"text": "a", "label": 1}\n]', "jsonl")
    assert row.reason.endswith("; format=json reads a list over lines")
