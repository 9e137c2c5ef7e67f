"""JSON documents, against the json module."""

import io
import json
import tracemalloc

import pytest

from rnn_lab.data.readers.json_rows import JsonStream
from rnn_lab.data.readers.lines import MAX_CHARACTERS
from rnn_lab.data.readers.records import BadRow, ReadOptions, Record, RecordReader
from rnn_lab.errors import DataError

ROWS = [{"text": f'a "film" {i}, ü\n]}}', "label": i % 3, "meta": {"n": [i]}} for i in range(500)]
RECORDS = [Record(i + 1, row["text"], str(row["label"])) for i, row in enumerate(ROWS)]


def by_column(kind) -> dict:
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    if kind is dict:
        return {name: {str(i): v for i, v in enumerate(values)} for name, values in columns.items()}
    return columns


def read(path, **options) -> list:
    return list(RecordReader(path, ReadOptions(**options), labelled=True))


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize(
    "document",
    [ROWS, {"data": ROWS, "version": 1}, by_column(list), {"n": 1} | by_column(dict)],
    ids=["list", "list in an object", "columns", "pandas' columns"],
)
def test_every_shape_that_the_json_module_writes(tmp_path, document, indent, ascii):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=ascii), encoding="utf-8")
    assert read(path) == RECORDS


def test_json_lines_in_a_json_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    assert read(path) == RECORDS
    path.write_text(json.dumps(ROWS[0]))
    assert read(path) == RECORDS[:1]


def test_bad_items_cost_themselves_only(tmp_path):
    path = tmp_path / "a.json"
    good = {"text": "a", "label": 1}
    items = [good, 3, [good], {"text": None, "label": 1}, {"text": "b", "label": [{}]}, {}, good]
    path.write_text(json.dumps(items)[:-1] + ', {"text": "a", "text": "b", "label": 2}]')
    found = read(path)
    assert found[0] == Record(1, "a", "1")
    assert found[6] == Record(7, "a", "1")
    assert [row.reason for row in found if isinstance(row, BadRow)] == [
        "is not a JSON object: 3",
        "is not a JSON object: a list",
        "'text' is not a string: null",
        "'label' is not a name or number, or a list of them: a list",
        "has no 'text'",
        "has 'text' more than once",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a", "label": 1}\n, {"text": "b"', "is not JSON: .* in line 2"),
        ('[{"text": "a", "label": 1} {"text": "b"}]', "is not JSON: expected ','"),
        ('"text"', "expected a list of objects or an object of columns"),
        ('{"text": ["a"], "label": [1, 2]}', "the columns differ in length"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"text": "a", "label": %s}]' % ("9" * 5_000), "an integer with thousands of digits"),
        ('{"texts": ["a"], "n": [1]}', "no column has a common name for the label.*one of: n"),
    ],
    ids=["cut", "no comma", "a string", "lengths", "nested", "digits", "columns"],
)
def test_a_document_that_cannot_be_read_further(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read(path, format="json")
    assert str(caught.value).startswith(f"{path}: ")


class Dripping(io.StringIO):
    """A stream that returns one character at a time, so that every value is cut everywhere."""

    def read(self, size=-1):
        return super().read(1)


@pytest.mark.parametrize("document", [ROWS[:20], [12345, -1.5e-3, True, None, 'a\\"b'], []])
def test_values_that_a_read_cuts(document):
    text = json.dumps(document, indent=1)
    assert list(JsonStream(Dripping(text)).rows()) == document
    columns = {"a": document, "b": {str(i): value for i, value in enumerate(document)}, "c": 1.25}
    found = JsonStream(Dripping(json.dumps(columns))).columns()
    read = {name: None if values is None else list(values) for name, values in found}
    assert read == {"a": document, "b": document, "c": None}


def test_a_value_without_an_end_in_sight(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "' + "a" * (MAX_CHARACTERS + 100_000))
    with pytest.raises(DataError, match="a value is longer than 16,777,216 characters"):
        read(path)


@pytest.mark.parametrize("shape", ["list", "columns"])
def test_memory_does_not_grow_with_the_document(tmp_path, shape):
    path = tmp_path / "a.json"
    text, count = "some text " * 100, 2_000
    rows = {"text": [text] * count, "label": [1] * count}
    if shape == "list":
        rows = [{"text": text, "label": 1}] * count
    path.write_text(json.dumps(rows, indent=1))
    tracemalloc.start()
    try:
        found = sum(1 for _ in RecordReader(path, ReadOptions(encoding="utf-8"), labelled=True))
        assert tracemalloc.get_traced_memory()[1] < 650_000 < path.stat().st_size / 2
    finally:
        tracemalloc.stop()
    assert found == count


def test_a_stream():
    options = ReadOptions("json")
    stream = io.BytesIO(json.dumps(ROWS).encode("utf-16"))
    assert list(RecordReader(stream, options, labelled=True)) == RECORDS
    stream = io.BytesIO(json.dumps(by_column(list)).encode())
    with pytest.raises(DataError, match="is read from a file, not a stream"):
        list(RecordReader(stream, options, labelled=True))
