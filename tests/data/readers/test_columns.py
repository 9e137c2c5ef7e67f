"""Header and columns: by option, by name, by evidence, or an error that works when followed."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from rnn_lab.data.readers.records import ReadInfo, ReadOptions, Record, RecordReader
from rnn_lab.errors import DataError

WORDS = [
    *("the", "film", "was", "an", "actor", "spoke", "scene", "music", "ended", "then"),
    *("nothing", "happened", "at", "all"),
]


def text(i: int) -> str:
    return " ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 6 + i % 5)) + f" number {i}"


def table(rows, header=()) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([*([header] if header else []), *rows])
    return file.getvalue().encode()


def reader_of(content: bytes, format="csv", *, labelled=True, like=None, **options):
    options = ReadOptions(format, prefix="data.", **options)
    return RecordReader(io.BytesIO(content), options, labelled=labelled, like=like)


def read(content: bytes, format="csv", **options) -> tuple[list[tuple[str, str]], ReadInfo]:
    reader = reader_of(content, format, **options)
    rows = list(reader)
    assert all(isinstance(row, Record) for row in rows), rows
    return [(row.text, row.label) for row in rows], reader.info


LABELLED = [(text(i), "ham" if i % 3 else "spam") for i in range(60)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["text first", "label first"])
@pytest.mark.parametrize("header", [("body of it", "mood"), ("v2", "v1"), ()])
def test_two_columns_are_found_by_evidence(order, header):
    rows = [[row[i] for i in order] for row in LABELLED]
    content = table(rows, [header[i] for i in order] if header else ())
    found, info = read(content)
    assert found == LABELLED
    assert info.columns.header == bool(header)
    names = [header[i] for i in order] if header else ["0", "1"]
    assert info.columns.names == tuple(names)


def test_unnamed_empty_columns_beside():
    rows = [(label, text, "", "", "") for text, label in LABELLED]
    found, _ = read(table(rows, ("v1", "v2", "", "", "")))
    assert found == LABELLED


def test_a_file_sorted_by_class_has_one_label_in_its_first_rows():
    rows = [(text(i), "1") for i in range(1500)] + [(text(i), "0") for i in range(5)]
    found, _ = read(table(rows))
    assert found == rows


def test_a_long_text_that_repeats_is_not_the_text():
    rows = [("from the archive of " * (1 + i % 2), t, x) for i, (t, x) in enumerate(LABELLED)]
    found, _ = read(table(rows), label_column=2)
    assert found == LABELLED


def test_ids_and_dates_are_neither_text_nor_label():
    rows = [
        (i, f"Mon Apr 06 22:19:{i:02} PDT 2009", label, t) for i, (t, label) in enumerate(LABELLED)
    ]
    found, info = read(table(rows))
    assert found == LABELLED
    assert (info.columns.text, info.columns.label) == (("3",), "2")


THREE = [(str(i % 4), f"Title of the text number {i}" + "!" * (i % 20), text(i)) for i in range(40)]


def test_two_texts_are_not_plain_and_the_message_works_when_followed():
    with pytest.raises(DataError) as caught:
        read(table(THREE))
    message = str(caught.value)
    assert message.startswith("<stream>:1: more than one column may be the text: 1, 2; ")
    assert "0 (0), 1 (Title of the text number 0), 2 (" in message
    (columns,) = re.findall(r"data\.text_column=\[([0-9,]+)\]", message)
    found, _ = read(table(THREE), text_column=[int(n) for n in columns.split(",")])
    assert found == [(f"{title} {body}", label) for label, title, body in THREE]


@pytest.mark.parametrize(
    "options",
    [
        {"columns": ("label", "title", "text")},
        {"columns": ("a", "b", "c"), "text_column": "c", "label_column": "a"},
        {"text_column": 2, "label_column": 0},
        {"text_column": "2", "header": False},
        {"text_column": [2]},
    ],
)
def test_columns_by_name_or_number(options):
    found, info = read(table(THREE), **options)
    assert found == [(body, label) for label, _, body in THREE]
    assert not info.columns.header


def test_columns_of_any_name():
    names = ("a=b", "текст", "true", "ярлык,1")
    rows = [("x", t, "y", label) for t, label in LABELLED]
    found, _ = read(table(rows, names), text_column="текст", label_column="ярлык,1")
    assert found == LABELLED


def test_empty_parts_of_a_joined_text_add_no_space():
    content = table([("a", " ", "1"), ("", "b ", "2"), ("a", "b", "1")], ("x", "y", "label"))
    found, _ = read(content, text_column=["x", "y"])
    assert [text for text, _ in found] == ["a", "b", "a b"]


def test_a_header_that_is_not_plain_has_a_message_that_works_both_ways():
    rows = [(f"word{i}", f"other{i}") for i in range(5)]
    with pytest.raises(DataError) as caught:
        read(table(rows))
    message = str(caught.value)
    assert message.endswith(": word0, other0")
    assert "data.header=false data.text_column and data.label_column, by number" in message
    found, _ = read(table(rows), header=False, text_column=0, label_column=1)
    assert found == rows
    found, _ = read(table(rows), header=True, text_column="word0", label_column="other0")
    assert found == rows[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"text_column": 7},
            "has no column 7; they are numbered from 0 to 2; set data.",
        ),
        ({"columns": ("a", "b")}, "data.columns has 2 names, and the first row 3 columns"),
        ({"label_column": "mood"}, "has no column 'mood'; set data.label_column to one of: 0 (0)"),
    ],
)
def test_columns_that_are_not_there(options, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read(table(THREE), **options)


def test_several_possible_labels_are_listed():
    rows = [(t, label, str(i % 5)) for i, (t, label) in enumerate(LABELLED)]
    with pytest.raises(DataError, match=r"set data\.label_column to one of: a, b$"):
        read(table(rows, ("t", "a", "b")))


@pytest.mark.parametrize("header", [("t", "billing", "login"), ()])
def test_columns_of_0_and_1_are_labels_of_a_list(header):
    rows = [(t, "01"[i % 2], "01"[i % 3 == 0]) for i, (t, _) in enumerate(LABELLED)]
    with pytest.raises(DataError) as caught:
        read(table(rows, header))
    names = header[1:] or ("1", "2")
    assert f"data.label_column=[{','.join(names)}]" in str(caught.value)
    columns = names if header else (1, 2)
    found, _ = read(table(rows, header), label_column=columns)
    assert found[:2] == [(LABELLED[0][0], (names[1],)), (LABELLED[1][0], (names[0],))]


def test_json_lines_in_a_file_name_only_the_column_that_is_missing(tmp_path):
    """And not as a bad row, of which all others would be bad too."""
    rows = [{"Beschreibung": text(i), "ziel": "abc"[i % 3], "n": i % 2} for i in range(60)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError) as caught:
        list(RecordReader(path, ReadOptions(prefix="data."), labelled=True))
    assert str(caught.value) == (
        f"{path}: no column has a common name for the label; set data.label_column to one of: "
        "ziel, n"
    )


def test_a_header_that_is_a_value_of_the_column_is_none():
    """A class may have the name of a column."""
    rows = [(t, ("topic", "text")[i % 2]) for i, (t, _) in enumerate(LABELLED)]
    found, info = read(table(rows))
    assert found == rows
    assert not info.columns.header


def test_evidence_finds_the_keys_of_json_lines():
    lines = [
        json.dumps(
            {
                "is_sarcastic": i % 2,
                "headline": text(i),
                "link": f"https://example.com/{i}/{text(i)}".replace(" ", "-"),
            }
        )
        for i in range(40)
    ]
    found, info = read("\n".join(lines).encode(), "jsonl")
    assert found == [(text(i), str(i % 2)) for i in range(40)]
    assert (info.columns.text, info.columns.label) == (("headline",), "is_sarcastic")


def test_a_file_that_evidence_does_not_decide_is_read_like_another():
    train = reader_of(table(THREE), text_column=2)
    list(train)
    few = table([("1", "A title", "a text"), ("2", "Another", "more")])
    with pytest.raises(DataError):
        read(few)
    found, _ = read(few, like=train.info)
    assert found == [("a text", "1"), ("more", "2")]


def test_unlabelled_tables_need_no_label():
    reader = reader_of(table([(i, t) for i, (t, _) in enumerate(LABELLED)]), labelled=False)
    assert [row.text for row in reader] == [t for t, _ in LABELLED]


def test_the_columns_of_another_file_come_before_common_names():
    like = ReadInfo.from_dict({"text_column": ["head", "body"], "label_column": "mood"})
    content = b"text,body,head,label,mood\nx,b,a,0,1\n"
    assert list(reader_of(content, like=like)) == [Record(2, "a b", "1")]
    assert list(reader_of(content, like=like, text_column="text")) == [Record(2, "x", "1")]
    without = b"text,extra,label\nx,b,0\n"
    assert list(reader_of(without, like=like)) == [Record(2, "x", "0")]


def test_a_first_row_with_the_name_of_the_training_texts_column_is_a_header():
    train = b"no;request;drawer\n1;the bill is wrong;bills\n2;please cancel;ends\n"
    options = {"text_column": "request", "label_column": "drawer", "header": True}
    _, like = read(train, **options)
    few = b"request\nwhere is my refund\n"
    with pytest.raises(DataError, match="no column has a common name"):
        read(few, labelled=False)
    found, _ = read(few, labelled=False, like=like)
    assert found == [("where is my refund", None)]


@pytest.mark.parametrize(
    "damaged", [{}, {"text_column": 5}, {"text_column": []}, {"text_column": [1], "encoding": {}}]
)
def test_recorded_columns_that_are_damaged_are_none(damaged):
    assert ReadInfo.from_dict(damaged) == ReadInfo("txt")


def test_all_columns_of_a_table_are_kept():
    reader = reader_of(b"a,text,a,id\n1,good,3,4\n5, ,7,8\n", labelled=False, all_columns=True)
    good, empty = reader
    assert good.columns == {"a": "1", "text": "good", "a.1": "3", "id": "4"}
    assert (empty.columns["a.1"], empty.id) == ("7", "8")


def test_a_group_is_neither_text_nor_label():
    rows = [(f"writer {i % 5} of many long books", text(i), "ab"[i % 2]) for i in range(40)]
    content = table(rows, ["who", "what", "mark"])
    reader = reader_of(content, group_column="who")
    first = next(iter(reader))
    assert (first.text, first.label, first.group) == (rows[0][1], "a", rows[0][0])


def test_joined_labels_may_be_empty():
    rows = [(text(i), "" if i % 5 == 0 else "a;b" if i % 2 else "b") for i in range(60)]
    content = table(rows, ("text", "tags"))
    with pytest.raises(DataError, match=r"set data\.label_column to one of: tags"):
        read(content)
    found, info = read(content, label_separator=";")
    assert info.columns.label == "tags"
    assert [labels for _, labels in found[:3]] == [(), ("a", "b"), ("b",)]


@pytest.mark.parametrize("write", [str, json.dumps])
def test_cells_with_lists_of_labels(write):
    labels = [[], ["news", "tech"], ["art, music"], ["tech"]]
    rows = [(text(i), write(labels[i % 4])) for i in range(60)]
    found, info = read(table(rows, ("text", "tags")))
    assert [label for _, label in found[:4]] == [(), ("news", "tech"), ("art, music",), ("tech",)]
    assert info.as_dict()["label_separator"] == "list"
    # One that is not in brackets: none is a list.
    found, info = read(table([*rows, (text(9), "news")], ("text", "label")))
    assert found[1][1] == write(["news", "tech"])
    assert "label_separator" not in info.as_dict()


def test_a_cell_that_is_not_a_list():
    reader = reader_of(b"text,label\nx,['a']\ny,b\nz,\n", label_separator="list")
    first, second, third = reader
    assert (first.label, third.label) == (("a",), ())
    assert second.reason.startswith("'b' is not a list of labels such as ['news', 'tech']")


@pytest.mark.parametrize("is_known", [False, True], ids=["training", "prediction"])
@pytest.mark.parametrize("repeated", ["text", "label"])
def test_a_column_with_a_common_name_that_occurs_twice_is_refused(repeated, is_known):
    _, like = read(table(LABELLED, ("text", "label")))
    rows = [(text(i), "ab"[i % 2], text(i + 1) if repeated == "text" else "a") for i in range(20)]
    content = table(rows, ("text", "label", repeated))
    with pytest.raises(DataError, match=f"has more than one column '{repeated}'; give each a name"):
        list(reader_of(content, like=like if is_known else None))


@pytest.mark.parametrize("column", ["id", "guess"])  # a guess could be a label
def test_a_file_without_the_label_of_the_training_file_says_so(column):
    _, like = read(table(LABELLED, ("text", "label")))
    rows = [(i if column == "id" else "ab"[i % 2], text(i)) for i in range(20)]
    assert column == "id" or read(table(rows, (column, "text")))[1].columns.label == column
    with pytest.raises(DataError) as error:
        list(reader_of(table(rows, (column, "text")), like=like))
    assert str(error.value) == (
        f"<stream>:1: has no column 'label', as the training file has; columns: {column}, text; "
        "set data.label_column if one of them is the label; predict.py labels texts without labels"
    )


@pytest.mark.parametrize(
    ("words", "header"),
    [
        (("อาหารแย่มากและบริการไม่ดี", "อาหารอร่อยมากและบริการดี"), ("ข้อความ", "ป้าย")),
        (("المنتج سيئ جدا ولا أنصح به", "المنتج رائع جدا وأنصح به"), ("النص", "التصنيف")),
    ],
)
def test_texts_of_almost_equal_length_are_texts(words, header):
    rows = [(f"{words[i % 2]} {i}", "ab"[i % 2]) for i in range(60)]
    found, info = read(table(rows, header))
    assert found == rows
    assert info.columns.text == header[:1]


def test_dates_of_one_length_are_not_texts():
    rows = [(text(i), f"Mon Apr {i % 30:02} 22:{i:02}:45 2009", "ab"[i % 2]) for i in range(60)]
    _, info = read(table(rows, ("body of it", "when", "mood")))
    assert info.columns.text == ("body of it",)


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_keys_of_nested_objects(format):
    rows = [
        {"id": i, "data": {"text": t}, "meta": {"label": a}} for i, (t, a) in enumerate(LABELLED)
    ]
    lines = "\n".join(map(json.dumps, rows)) if format == "jsonl" else json.dumps(rows)
    columns = {"text_column": "data.text", "label_column": "meta.label"}
    found, like = read(lines.encode(), format, **columns)
    assert found == LABELLED
    # As in the training texts, without the options; the kept columns are those of the file.
    reader = reader_of(lines.encode(), format, labelled=False, like=like, all_columns=True)
    first = next(iter(reader))
    assert (first.text, first.columns) == (LABELLED[0][0], rows[0])


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_keys_of_nested_objects_are_listed(tmp_path, format):
    rows = [{"data": {"text": t, "at": {"day": 1}}, "meta": {"label": a}} for t, a in LABELLED]
    lines = "\n".join(map(json.dumps, rows)) if format == "jsonl" else json.dumps(rows)
    (tmp_path / f"a.{format}").write_text(lines)
    with pytest.raises(DataError, match=r"to two of: data\.text, data\.at\.day, meta\.label$"):
        list(RecordReader(tmp_path / f"a.{format}", ReadOptions(), labelled=True))


def test_a_nested_key_that_is_not_there(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"data": {"text": "x"}, "label": "a"}\n')
    options = ReadOptions(text_column="data.txt", label_column="label", prefix="data.")
    with pytest.raises(DataError, match=r"a\.jsonl: has no column 'data\.txt'; set data\.text_"):
        list(RecordReader(path, options, labelled=True))
    (row,) = RecordReader(path, replace(options, text_column="data"), labelled=True)
    assert row.reason == (
        "'data' is not a string: an object; a column may be a key of it: data.text"
    )
    path.write_text('{"data": {"text": "x", "text": "y"}, "label": "a"}\n')
    (row,) = RecordReader(path, replace(options, text_column="data.text"), labelled=True)
    assert row.reason == "has 'data.text' more than once"
