import csv
import gzip
import io
import itertools
import json
import os
import pty
import shutil
import sys
import threading
import tty
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_lab.data.readers.records import BadRow, ReadOptions, Record, RecordReader
from rnn_lab.errors import DataError, UserError
from rnn_lab.inference.batch_predict import (
    WINDOW,
    WINDOW_TOKENS,
    _Encoded,
    _windows,
    classify,
    predict_rows,
)
from rnn_lab.inference.load import load_model
from rnn_lab.inference.predict import predict
from rnn_lab.inference.prediction_files import CsvTable, OutputOptions, ParquetTable, RowPrediction
from tests.fuzz import targets
from tests.fuzz.seeds import SEEDS
from tests.fuzz.test_targets import EXAMPLES, nearly

WORDS = st.lists(st.sampled_from(["awful", "lovely", "passable", "film", "the"]), max_size=40)
TEXTS = st.one_of(WORDS.map(" ".join), st.text())


@pytest.fixture(scope="session")
def run(mood_run):
    return load_model(str(mood_run))


def json_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.one_of(TEXTS, st.none()), min_size=1, max_size=30), batch=st.integers(1, 7))
def test_order_is_kept_and_neighbours_do_not_matter(run, rows, batch):
    records = [
        BadRow(line, "bad") if text is None else Record(line, text, None)
        for line, text in enumerate(rows, start=1)
    ]
    together = list(predict_rows(run, records, batch))
    assert [prediction.line for prediction in together] == [row.line for row in records]
    for text, prediction in zip(rows, together, strict=True):
        if text is None:
            assert prediction.error == "bad"
            assert prediction.probabilities is None
        else:
            (alone,) = classify(run, [run.text_encoder.encode(text)], 1)
            assert prediction.error is None
            np.testing.assert_allclose(prediction.probabilities, alone, atol=1e-6)
            assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-6)


def test_an_endless_input_is_answered_window_by_window(run):
    read = itertools.count(1)
    moods = itertools.cycle(["awful film", "lovely", "a passable scene then"])
    records = (Record(next(read), next(moods), None) for _ in itertools.repeat(None))
    answers = list(itertools.islice(predict_rows(run, records, 256), WINDOW + 5))
    assert next(read) == 2 * WINDOW + 1
    assert [answer.line for answer in answers] == list(range(1, WINDOW + 6))
    labels = [run.class_names[answer.probabilities.argmax()] for answer in answers]
    assert labels[-6:] == ["bad", "good", "so so"] * 2 or labels[:3] == ["bad", "good", "so so"]
    assert labels == list(itertools.islice(itertools.cycle(labels[:3]), WINDOW + 5))


def test_a_window_of_long_texts_holds_fewer_of_them():
    rows = [_Encoded(line, None, np.zeros(WINDOW_TOKENS // 4, np.int64)) for line in range(10)]
    assert [len(window) for window in _windows(iter(rows))] == [4, 4, 2]
    columns = {"body": "x" * WINDOW_TOKENS}
    rows = [_Encoded(line, None, np.zeros(1, np.int64), columns) for line in range(10)]
    assert [len(window) for window in _windows(iter(rows))] == [4, 4, 2]
    rows = [_Encoded(line, None, "no text") for line in range(WINDOW + 1)]
    assert [len(window) for window in _windows(iter(rows))] == [WINDOW, 1]


STRANGE = [
    (b"a lovely film", None),
    (b"", "empty text"),
    (b"  \t ", "empty text"),
    (b"x", None),
    (b"lovely " * 150_000, None),  # a megabyte
    (b"qwertz zxcvb", None),  # no known word
    (b"lovely\0film", "NUL"),
    (b"lovely \xff\xfe film", "not utf-8"),
    ("فيلم رائع جدا".encode(), None),
    ("🎬👍🏽 a\u2028b\x0bc\x85d".encode(), None),  # no line ends among them
    (b"<br /><script>alert(1)</script> awful", None),
    (b'"unclosed, and {"json": [', None),
    (b"the last line has no end: awful", None),
]


def test_every_line_gets_an_answer_or_an_error_with_its_number(tmp_path, capsys, mood_run, run):
    source, output = tmp_path / "strange.txt", tmp_path / "out.jsonl"
    source.write_bytes(b"\n".join(line for line, _ in STRANGE))
    predict({"run": str(mood_run), "input": str(source), "output": str(output)})

    answers = json_lines(output)
    assert [answer["line"] for answer in answers] == list(range(1, len(STRANGE) + 1))
    for answer, (line, error) in zip(answers, STRANGE, strict=True):
        if error is not None:
            assert error in answer["error"]
            assert set(answer) == {"line", "error"}
        else:
            ids = run.text_encoder.encode(line.decode())
            (expected,) = classify(run, [ids], 1)
            given = [answer["probabilities"][name] for name in run.class_names]
            np.testing.assert_allclose(given, expected, atol=1e-6)
            assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    stderr = capsys.readouterr().err
    for line in (2, 3, 7, 8):
        assert f"{source}:{line}: " in stderr
    assert "9 of 13 texts labelled" in stderr


def test_a_table_in_and_a_table_out(tmp_path, mood_run):
    source, output = tmp_path / "in.csv", tmp_path / "new folder" / "out.csv"
    source.write_text(
        'id,body,stars\n1,"An awful, awful film\nin two lines",1\n2,too,many,fields\n3,lovely,5\n'
    )
    options = {"run": str(mood_run), "input": str(source), "output": str(output)}
    predict(options | {"text_column": "body"})

    with output.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == [
        *(
            "line",
            "id",
            "body",
            "stars",
            "label",
            "probability_bad",
            "probability_good",
            "probability_so so",
            "error",
        )
    ]
    assert [row[:5] for row in rows] == [
        ["2", "1", "An awful, awful film\nin two lines", "1", "bad"],
        ["4", "", "", "", ""],
        ["5", "3", "lovely", "5", "good"],
    ]
    assert "4 columns" in rows[1][-1]
    assert sum(float(number) for number in rows[0][5:8]) == pytest.approx(1, abs=1e-6)
    assert rows[0][-1] == rows[2][-1] == ""


@pytest.mark.parametrize(
    ("content", "options", "printed"),
    [
        ("stars,body\n5,lovely\n", {}, "the text is the column 'body'"),
        ("5,lovely\n", {"columns": ["n", "body"]}, "the text is the column body"),
        ("5,lovely\n", {"header": False, "text_column": 1}, None),
    ],
)
def test_the_column_that_was_inferred_is_printed(
    tmp_path, mood_run, capsys, content, options, printed
):
    """And the first columns of CSV are the same for every input: docs/outputs.md."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(content)
    predict({"run": str(mood_run), "input": str(source), "output": str(output)} | options)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [*([f"{source}: {printed}"] if printed else []), "1 of 1 texts labelled"]
    with output.open(newline="") as file:
        header, row = csv.reader(file)
    assert header[:2] == ["line", "id"] and row[1] == ""


@pytest.mark.parametrize(
    ("content", "options", "format"),
    [
        ('{"text": "lovely"}\n', {}, "jsonl"),
        ("id,Text\n1,lovely\n", {}, "csv"),
        ('"text"\tn\n', {}, "tsv"),
        ("{lovely}\n", {}, None),
        ("12\n", {}, None),
        ("Lovely, this text.\n", {}, None),
        ('{"text": "lovely"}\n', {"format": "txt"}, None),
    ],
)
def test_plain_text_that_looks_like_another_format_is_named(
    tmp_path, mood_run, capsys, content, options, format
):
    """It is labelled anyway: a text may begin with anything."""
    source = tmp_path / "in.txt"
    source.write_text(content)
    predict({"run": str(mood_run), "input": str(source)} | options)
    *hints, _ = capsys.readouterr().err.splitlines()
    said = f"{source}: read as plain text, a text a line; it looks like format={format}"
    assert hints == ([] if format is None else [said])


def test_jsonl_in(tmp_path, mood_run):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        '{"text": "lovely", "id": 12}\n{"text": 5}\nnot json\n{"text": "awful \\ud83d"}\n'
    )
    predict({"run": str(mood_run), "input": str(source), "output": str(output)})
    first, *others = json_lines(output)
    assert (first["line"], first["id"], first["label"]) == (1, 12, "good")
    assert [other["line"] for other in others] == [2, 3, 4]
    assert all(other["error"] for other in others)


def test_one_text_is_answered_for_people(capsys, mood_run):
    predict({"run": str(mood_run), "text": "an awful, awful film"})
    label, *rows = capsys.readouterr().out.splitlines()
    assert label == "bad"
    table = {row[2:7].strip(): float(row[7:].removesuffix("%")) for row in rows}
    assert set(table) == {"bad", "good", "so so"}
    assert list(table.values()) == sorted(table.values(), reverse=True)
    assert sum(table.values()) == pytest.approx(100, abs=0.2)


def test_bfloat16_is_near_float32(tmp_path, mood_run):
    source = tmp_path / "reviews.txt"
    source.write_text("a lovely film\nan awful scene\nthe music was passable\n" * 10)
    found = []
    for precision in ("32-true", "bf16-mixed"):
        output = tmp_path / f"{precision}.jsonl"
        predict(
            {
                **{"run": str(mood_run), "input": str(source), "output": str(output)},
                **{"precision": precision, "device": "cpu"},
            }
        )
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        found.append(np.array([list(row["probabilities"].values()) for row in rows]))
    exact, rough = found
    assert 0 < abs(rough - exact).max() < 0.02
    assert (rough.argmax(1) == exact.argmax(1)).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": "x", "run": None}, "run=<path>"),
        ({}, "give one of text"),
        ({"text": "x", "input": "y.txt"}, "give one of text"),
        ({"text": " \n"}, "is empty"),
        ({"text": "caf\udce9"}, "text: is not utf-8: byte 0xe9"),
        ({"input": "reviews.docx"}, "reviews.docx"),
        ({"input": "reviews.txt"}, "reviews.txt"),
        ({"input": "empty.txt"}, "contains no text"),
        ({"input": "bad.txt"}, "bad.txt:1: "),
        ({"input": "good.txt", "output": "out.xlsx"}, r"\.jsonl, \.ndjson, \.csv"),
        ({"input": "good.txt", "output": "./good.txt"}, "is the input file"),
        ({"input": "good.txt", "format": "xml"}, "Choose from: txt, csv, tsv, jsonl"),
        ({"input": "good.txt", "encoding": "utf-13"}, "utf-13"),
        ({"input": "good.txt", "output": "good.txt/out.csv"}, "cannot be written"),
        ({"text": "x", "batch_size": 0}, "batch_size=0"),
        ({"text": "x", "device": "tpu"}, "Choose from: auto, cpu, cuda, mps"),
        ({"text": "x", "precision": "16-true"}, "Choose from: 32-true, bf16-mixed"),
        ({"text": "x", "run": "nowhere"}, "nowhere"),
    ],
)
def test_mistake_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, mood_run, options, said):
    monkeypatch.chdir(tmp_path)
    for name, content in {"empty": b"", "good": b"lovely\n", "bad": b"\n\0\n"}.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=said):
        predict({"run": str(mood_run)} | options)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "good.txt").read_bytes() == b"lovely\n"


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="a pipe has no path")
def test_the_path_of_a_pipe_is_refused(mood_run):
    """As a shell gives for input=<(command)."""
    ours, theirs = os.pipe()
    os.write(theirs, b"a lovely film\n")
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        with pytest.raises(DataError, match="not a regular file; input=- reads a pipe"):
            predict({"run": str(mood_run), "input": f"/dev/fd/{ours}", "format": "txt"})
        assert pipe.read() == b"a lovely film\n"


def test_an_output_that_is_a_link_stays_one(tmp_path, mood_run):
    """The user chose it, and means what it leads to."""
    (tmp_path / "in.txt").write_text("a lovely film\n")
    (tmp_path / "out.jsonl").symlink_to("there.jsonl")
    options = {"input": str(tmp_path / "in.txt"), "output": str(tmp_path / "out.jsonl")}
    predict({"run": str(mood_run)} | options)
    assert (tmp_path / "out.jsonl").is_symlink()
    assert [answer["label"] for answer in json_lines(tmp_path / "there.jsonl")] == ["good"]


def test_a_failure_half_way_leaves_the_earlier_output(tmp_path, mood_run, monkeypatch):
    output = tmp_path / "out.jsonl"
    output.write_text("earlier\n")
    with stream_that_breaks(b"lovely\n" * (WINDOW + 1)) as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        with pytest.raises(DataError, match=f":{WINDOW + 2}: cannot be read: Input/output error"):
            options = {"run": str(mood_run), "input": "-", "output": str(output)}
            predict(options | {"overwrite": True})
    assert output.read_text() == "earlier\n"
    assert list(tmp_path.iterdir()) == [output]


@contextmanager
def stream_that_breaks(content: bytes):
    """A terminal whose other end goes away: what was written comes, then an error of the system."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)

    def write():
        with os.fdopen(theirs, "wb", buffering=0) as file:
            file.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(ours, "rb") as stream:
        yield stream
    writer.join()


def test_any_file(mood_run):
    label = targets.predict_with(mood_run)
    for seed in SEEDS["predict"]:
        label(seed)

    @settings(max_examples=EXAMPLES // 2, deadline=None)
    @given(nearly("predict"))
    def any_file(data: bytes) -> None:
        label(data)

    any_file()


def test_files_are_read_as_for_training(tmp_path, mood_run):
    texts = ["an awful; awful film", "a lovely film, été", "a passable film, and that is all"]
    texts = [f"{text} {i}" for i, text in enumerate(texts * 4)]
    rows = "".join(f"{i};'{text}'\n" for i, text in enumerate(texts))
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(rows.encode("cp1252")))
    (tmp_path / "in.json").write_text(json.dumps([{"headline": text} for text in texts]))
    (tmp_path / "in.txt").write_text("\n".join(texts), encoding="utf-16")
    answers = []
    for name in ("in.csv.gz", "in.json", "in.txt"):
        output = tmp_path / f"{name}.jsonl"
        predict({"run": str(mood_run), "input": str(tmp_path / name), "output": str(output)})
        answers.append([(row["line"], row["probabilities"]) for row in json_lines(output)])
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == len(texts)
    predict(
        {"run": str(mood_run), "input": str(tmp_path / "in.csv.gz"), "output": str(output)}
        | {"header": False, "text_column": 0}
    )
    assert len(json_lines(output)) == len(texts)


LABELLED = [
    {"label": "good", "body": "a lovely film", "n": 1, "probability_bad": None, "more": ["é", "x"]},
    {"label": "bad", "body": "awful", "n": 2, "probability_bad": 0.5, "more": []},
    {"label": "bad", "body": " ", "n": 3, "probability_bad": 0.5, "more": None},
]


def test_every_column_is_kept_in_every_format(tmp_path, mood_run):
    """What the input calls as the output does gets a prefix; pandas reads the tables."""
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, LABELLED)))
    options = {"run": str(mood_run), "input": str(tmp_path / "in.jsonl"), "text_column": "body"}
    for ending in (".jsonl", ".csv", ".parquet"):
        predict(options | {"output": str(tmp_path / f"out{ending}")})

    lines = json_lines(tmp_path / "out.jsonl")
    for line, row in zip(lines, LABELLED, strict=True):
        kept = {"input_label": row["label"], "probability_bad": row["probability_bad"]}
        kept |= {name: row[name] for name in ("body", "n", "more")}
        assert {name: line[name] for name in kept} == kept
    assert [line.get("label") for line in lines] == ["good", "bad", None]
    assert lines[2]["error"] == "empty text"

    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("line", "id", "input_label", "body", "n", "input_probability_bad", "more"),
        *("label", "probability_bad", "probability_good", "probability_so so", "error"),
    ]
    assert [row["more"] for row in rows] == ['["é", "x"]', "[]", ""]
    assert [row["input_probability_bad"] for row in rows] == ["", "0.5", "0.5"]

    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == [name for name in rows[0] if name != "id"]
    assert table["n"].to_pylist() == [1, 2, 3]
    assert table["label"].to_pylist() == ["good", "bad", None]
    for ours, line in zip(table.to_pylist(), lines[:2], strict=False):
        assert ours["probability_good"] == pytest.approx(line["probabilities"]["good"], abs=1e-6)


def test_probabilities_of_another_run_are_kept_as_they_are(tmp_path, mood_run):
    pq = pytest.importorskip("pyarrow.parquet")
    row = {"text": "lovely", "probability_spam": 0.123456789012}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    options = {"run": str(mood_run), "input": str(tmp_path / "in.jsonl")}
    predict(options | {"output": str(tmp_path / "out.parquet")})
    assert pq.read_table(tmp_path / "out.parquet")["probability_spam"].to_pylist() == [
        0.123456789012
    ]


def test_parquet_keeps_its_types(tmp_path, mood_run):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    given = pa.table(
        {
            "text": ["lovely", "awful"],
            "day": pa.array([1, 2], pa.date32()),
            "small": pa.array([None, 7], pa.int8()),
            "none": pa.array([None, None], pa.float64()),
        }
    )
    pq.write_table(given, tmp_path / "in.parquet")
    options = {"run": str(mood_run), "input": str(tmp_path / "in.parquet")}
    predict(options | {"output": str(tmp_path / "out.parquet")})
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.select(given.column_names) == given
    predict(options | {"output": str(tmp_path / "out.jsonl")})
    assert json_lines(tmp_path / "out.jsonl")[0]["day"] == "1970-01-02"
    (tmp_path / "in.jsonl").write_text(
        "\n".join(json.dumps({"text": "lovely", "a": 1 if i < 4096 else "x"}) for i in range(4097))
    )
    options |= {"input": str(tmp_path / "in.jsonl"), "output": str(tmp_path / "mixed.parquet")}
    with pytest.raises(DataError, match=r"column 'a' .*int64.*\.jsonl has them"):
        predict(options)
    assert not (tmp_path / "mixed.parquet").exists()


def test_only_the_id_and_the_likeliest_classes(tmp_path, mood_run, capsys):
    (tmp_path / "in.csv").write_text("key,review,note\na7,a lovely film,x\nb8,awful,y\nc9,,z\n")
    options = {"run": str(mood_run), "input": str(tmp_path / "in.csv"), "id_column": "key"}
    predict(options | {"top_k": 2, "output": str(tmp_path / "out.jsonl")})
    first, second, third = json_lines(tmp_path / "out.jsonl")
    assert [set(row) for row in (first, second)] == [{"line", "id", "label", "probabilities"}] * 2
    assert third == {"line": 4, "id": "c9", "error": "empty text"}
    assert (first["id"], second["id"]) == ("a7", "b8")
    assert next(iter(first["probabilities"])) == first["label"] == "good"
    numbers = list(first["probabilities"].values())
    assert len(numbers) == 2 and numbers == sorted(numbers, reverse=True)

    predict(options | {"top_k": 5, "output": str(tmp_path / "out.csv")})
    with (tmp_path / "out.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    ranks = [f"{what}_{rank}" for rank in (1, 2, 3) for what in ("label", "probability")]
    assert list(row) == ["line", "id", "label", *ranks, "error"]
    assert row["label"] == row["label_1"] == "good"

    del options["id_column"]
    predict(options | {"keep_columns": False, "output": str(tmp_path / "bare.jsonl")})
    assert set(json_lines(tmp_path / "bare.jsonl")[0]) == {"line", "label", "probabilities"}
    predict({"run": str(mood_run), "text": "awful", "top_k": 1})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_another_file_is_not_overwritten(tmp_path, mood_run):
    (tmp_path / "in.txt").write_text("lovely\n")
    options = {"run": str(mood_run), "input": str(tmp_path / "in.txt")}
    for ending, content in ((".csv", "line,text\n1,x\n"), (".jsonl", '{"text": "x"}\n')):
        output = tmp_path / f"out{ending}"
        output.write_text(content)
        with pytest.raises(UserError, match=r"is not a file of predictions.*overwrite=true"):
            predict(options | {"output": str(output)})
        assert output.read_text() == content
        predict(options | {"output": str(output), "overwrite": True})
        predict(options | {"output": str(output)})  # its own
        assert "good" in output.read_text()
    pytest.importorskip("pyarrow")
    output = tmp_path / "out.parquet"
    output.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="overwrite=true"):
        predict(options | {"output": str(output)})
    for overwrite in (True, False):
        predict(options | {"output": str(output), "overwrite": overwrite})


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", ""), ("UTF8", ""), ("utf-8-sig", "\ufeff"), ("cp1254", "\ufeff")],
)
def test_a_csv_output_opens_where_its_input_does(tmp_path, mood_run, encoding, mark):
    source, output = tmp_path / "excel.csv", tmp_path / "labelled.csv"
    source.write_text("review;şehir\nlovely, really;1\nawful;2\n", encoding=encoding)
    options = {"run": str(mood_run), "input": str(source), "output": str(output)}
    options |= {"encoding": encoding.removesuffix("-sig")}
    for _ in range(2):  # it is recognized as a file of predictions
        predict(options)
    header, row, _ = output.read_text(encoding="utf-8").splitlines()
    assert header.startswith(f"{mark}line;id;review;şehir;label;")
    assert row.startswith("2;;lovely, really;1;good;")


def test_columns_are_those_of_the_training_texts(tmp_path, mood_run):
    """The run has read the column `review`; `text` would be found by its name."""
    (tmp_path / "in.csv").write_text("text,review\nawful,lovely\nawful,lovely\n")
    bare = shutil.copy(mood_run / "checkpoints" / "best.ckpt", tmp_path / "bare.ckpt")
    for run in (mood_run, mood_run / "checkpoints" / "best.ckpt", bare):
        output = tmp_path / "out.jsonl"
        predict({"run": str(run), "input": str(tmp_path / "in.csv"), "output": str(output)})
        assert [row["label"] for row in json_lines(output)] == ["good", "good"]
    options = {"run": str(mood_run), "input": str(tmp_path / "in.csv"), "output": str(output)}
    predict(options | {"text_column": "text"})
    assert [row["label"] for row in json_lines(output)] == ["bad", "bad"]


@pytest.mark.parametrize(
    ("names", "cells", "separator"),
    [
        (("a, b", "c"), ["a, b;c", "c", ""], ";"),
        (("a;b", "c"), ['["a;b", "c"]', '["c"]', "[]"], None),  # inferred
    ],
)
def test_several_labels_in_a_cell_are_read_back(names, cells, separator):
    reader = RecordReader(
        io.BytesIO(b"text\nx\ny\nz\n"), ReadOptions("csv", all_columns=True), labelled=False
    )
    rows = [
        RowPrediction(record.line, None, np.ones(2, np.float32), None, record.columns, labels)
        for record, labels in zip(reader, (names, names[1:], ()), strict=True)
    ]
    csv_file, parquet_file = io.StringIO(), io.BytesIO()
    options = OutputOptions(names, reader, label_separator=";")
    assert list(CsvTable(csv_file, options).write_all(rows)) == rows
    assert list(ParquetTable(parquet_file, options).write_all(rows)) == rows
    assert pq.read_table(parquet_file)["labels"].to_pylist() == cells
    columns = ReadOptions(
        "csv", text_column="text", label_column="labels", label_separator=separator
    )
    written = RecordReader(io.BytesIO(csv_file.getvalue().encode()), columns, labelled=True)
    assert [record.label for record in written] == [row.labels for row in rows]
