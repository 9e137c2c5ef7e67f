import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from rnn_lab.data.readers.records import ReadOptions, Record, RecordReader
from rnn_lab.errors import ConfigError, DataError

CONTENT = "text,label\n" + "".join(f"text {i} ü,{i % 2}\n" for i in range(5_000))


def compressed(name: str) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(CONTENT.encode())
    zstandard = pytest.importorskip("zstandard")
    half = len(CONTENT) // 2  # two frames, as parallel compressors write them
    parts = (CONTENT[:half], CONTENT[half:])
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    return b"".join(compressor.compress(part.encode()) for part in parts)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.CSV.GZ", "a.csv.zst"])
def test_compressed_files_are_read_as_what_they_contain(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(compressed(name.lower()))
    reader = RecordReader(path, ReadOptions(), labelled=True)
    rows = list(reader)
    assert rows[-1] == Record(5_001, "text 4999 ü", "1")
    assert len(rows) == 5_000
    assert reader.info.format == "csv"


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst"])
def test_a_damaged_archive_is_one_line(tmp_path, name):
    path = tmp_path / name
    content = compressed(name)
    for damaged in (content[:-20], b"not compressed", content[:100] + bytes(50) + content[150:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"^{path}:\d+: cannot be read: .") as caught:
            list(RecordReader(path, ReadOptions(), labelled=True))
        assert str(caught.value).isprintable()


def zipped(path: Path, names: Sequence[str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, "text,label\n" * 50)


OFFICE = ("[Content_Types].xml", "_rels/.rels", "docProps/app.xml")


@pytest.mark.parametrize(
    ("name", "members", "kind"),
    [
        ("a.xlsx", (*OFFICE, "xl/workbook.xml"), "an Excel workbook; save it as CSV"),
        ("named.csv", (*OFFICE, "xl/workbook.xml"), "an Excel workbook; save it as CSV"),
        ("a.docx", (*OFFICE, "word/document.xml"), "a Word document; save it as text"),
        ("a.zip", ("xl.csv", "train/a.csv"), "a zip archive; unpack it"),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_documents_and_archives_are_refused_by_what_they_are(
    tmp_path, name, members, kind, labelled
):
    path = tmp_path / name
    zipped(path, members)
    with pytest.raises(DataError) as caught:
        list(RecordReader(path, ReadOptions(), labelled=labelled))
    assert str(caught.value) == f"{path}: is {kind}"


def test_an_open_document_is_refused(tmp_path):
    path = tmp_path / "a.ods"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    with pytest.raises(DataError, match="is an OpenDocument file; save it as CSV or text"):
        list(RecordReader(path, ReadOptions(), labelled=True))


def other_files(folder: Path) -> dict[Path, str]:
    text = CONTENT.encode()
    contents = {
        "gzip": (gzip.compress(text), "compressed by gzip; its name needs the ending .gz"),
        "bz2": (bz2.compress(text), "compressed; unpack it"),
        "xz": (lzma.compress(text), "compressed; unpack it"),
        "a.pdf": (b"%PDF-1.7\n%\xe2\xe3\n", "a PDF file"),
        **{
            f"{protocol}.pkl": (pickle.dumps({"text": ["a"] * 9}, protocol), "a pickle, which")
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
        },
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    found = {folder / name: kind for name, (_, kind) in contents.items()}
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.csv"), io.BytesIO())
    database = sqlite3.connect(folder / "a.db")
    database.execute("create table texts (text)")
    database.close()
    return found | {
        folder / "a.tar.gz": "a tar archive; unpack it",
        folder / "a.db": "an SQLite database; export the table as CSV",
    }


def test_other_files_without_texts_are_refused_by_what_they_are(tmp_path):
    for path, kind in other_files(tmp_path).items():
        for labelled in (True, False):
            with pytest.raises(DataError) as caught:
                list(RecordReader(path, ReadOptions(), labelled=labelled))
            assert str(caught.value).startswith(f"{path}: is {kind}"), path


def test_without_zstandard_the_message_has_the_command(tmp_path, monkeypatch):
    path = tmp_path / "a.csv.zst"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError, match=r"the package zstandard.*pip install .*'zstandard>="):
        list(RecordReader(path, ReadOptions(), labelled=True))
