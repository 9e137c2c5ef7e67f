"""Parquet, Arrow and saved data sets, as pyarrow writes them."""

import json
import sys
import tracemalloc
from pathlib import Path

import pytest

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.readers.records import ReadOptions, Record, RecordReader
from rnn_lab.data.sources.text_files import load_files
from rnn_lab.errors import ConfigError, DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

TEXTS = [f"text number {i}, ü" for i in range(3000)]
LABELS = [i % 3 for i in range(3000)]


def table(labels=LABELS):
    rows = len(labels)
    return pa.table({"text": TEXTS[:rows], "label": labels, "n": LABELS[:rows]})


def write(path: Path, content, format: str) -> Path:
    if format == "parquet":
        pq.write_table(content, path, row_group_size=1000)
        return path
    new = pa.ipc.new_file if format == "file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, new(sink, content.schema) as writer:
        writer.write_table(content, max_chunksize=700)
    return path


def read(path: Path, **options) -> list:
    return list(RecordReader(path, ReadOptions(**options), labelled=True))


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.parquet", "parquet"), ("a.arrow", "file"), ("a.arrow", "stream"), ("a.feather", "file")],
)
def test_every_row_in_order(tmp_path, name, format):
    found = read(write(tmp_path / name, table(), format))
    expected = zip(TEXTS, LABELS, strict=True)
    assert found == [Record(i, t, str(label)) for i, (t, label) in enumerate(expected, start=1)]


def test_labels_of_every_type_have_one_form(tmp_path):
    def labels(values, type=None) -> list:
        path = write(tmp_path / "a.parquet", table(pa.array(values, type)), "parquet")
        return [row.label if isinstance(row, Record) else row.reason for row in read(path)]

    assert labels([0, 1, 2], pa.int8()) == labels([0.0, 1.0, 2.0]) == ["0", "1", "2"]
    assert labels([True, False]) == ["true", "false"]
    assert labels(pa.array(["b", "a", "b"]).dictionary_encode()) == ["b", "a", "b"]
    assert labels([None, 1.0, float("nan")]) == ["empty label", "1", "empty label"]
    nested = "'label' is not a name or number, or a list of them: a list"
    assert labels([[[1]], [[2]]]) == [nested, nested]
    assert labels([["a", "b"], [], ["a", "a"]]) == [("a", "b"), (), ("a",)]


@pytest.mark.parametrize("format", ["parquet", "stream"])
def test_named_classes_of_hugging_face(tmp_path, format):
    features = {
        "tokens": [{"dtype": "string", "_type": "Value"}],  # a list, as older versions write it
        "label": {"names": ["World", "Sports", "Business"], "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    named = table().replace_schema_metadata(metadata)
    path = write(tmp_path / f"a.{'parquet' if format == 'parquet' else 'arrow'}", named, format)
    assert [row.label for row in read(path)[:3]] == ["World", "Sports", "Business"]


@pytest.mark.parametrize("is_list", [False, True])
def test_lists_of_named_classes_of_hugging_face(tmp_path, is_list):
    """As `Sequence(ClassLabel)` or `[ClassLabel]`, for texts with any number of labels."""
    item = {"names": ["joy", "fear"], "_type": "ClassLabel"}
    kind = [item] if is_list else {"feature": item, "_type": "Sequence"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": kind}}})}
    named = table(pa.array([[0, 1], [], [1]] * 1000)).replace_schema_metadata(metadata)
    path = write(tmp_path / "a.parquet", named, "parquet")
    assert [row.label for row in read(path)[:3]] == [("joy", "fear"), (), ("fear",)]


def test_a_saved_data_set(tmp_path):
    """The files that `datasets.Dataset.save_to_disk` writes."""
    folder = tmp_path / "saved"
    folder.mkdir()
    files = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    for part, name in enumerate(files):
        write(folder / name, table().slice(1500 * part, 1500), "stream")
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in files], "_split": "train"})
    )

    def load(path: Path):
        return load_files(FilesConfig(train_path=str(path), cache_dir=str(tmp_path / "cache")))

    corpus = load(folder)
    assert sorted([*corpus.train.texts, *corpus.test.texts]) == sorted(TEXTS)
    assert corpus.source_info["train_path"]["format"] == "arrow"
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["saved", "test"]}))
    choices = f"set data.train_path to one of: {folder}, {tmp_path}/test"
    with pytest.raises(DataError, match=choices):
        load(tmp_path)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../a.arrow"}]}))
    with pytest.raises(DataError, match=r"state\.json is damaged"):
        load(folder)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_damaged_files(tmp_path, name):
    path = write(tmp_path / name, table(), "parquet" if name == "a.parquet" else "stream")
    content = path.read_bytes()
    for damaged in (b"", b"PAR1", content[:1000], content[:200] + bytes(200) + content[400:]):
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: cannot be read: ")
            assert str(error).isprintable()
    path.write_bytes(content[:1000])
    with pytest.raises(DataError):
        read(path)


def test_columns_by_evidence(tmp_path):
    words = [f"some words that make up the text {'very ' * (i % 9)}{i}" for i in range(300)]
    content = pa.table({"headline": words, "mood": [i % 2 for i in range(300)], "i": range(300)})
    found = read(write(tmp_path / "a.parquet", content, "parquet"))
    assert found[:2] == [Record(1, words[0], "0"), Record(2, words[1], "1")]


def test_memory_does_not_grow_with_the_file(tmp_path):
    content = pa.table({"text": ["some text " * 60] * 12_000, "label": [1] * 12_000})
    path = write(tmp_path / "a.arrow", content, "stream")
    tracemalloc.start()
    try:
        assert sum(1 for _ in RecordReader(path, ReadOptions(), labelled=True)) == 12_000
        assert tracemalloc.get_traced_memory()[1] < 1_700_000 < path.stat().st_size / 4
    finally:
        tracemalloc.stop()


def test_without_pyarrow_the_message_has_the_command(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", table(), "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = r"a\.parquet: needs the package pyarrow.*pip install 'pyarrow"
    with pytest.raises(ConfigError, match=message):
        read(path)
