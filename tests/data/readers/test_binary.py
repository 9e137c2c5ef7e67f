import gzip
import sys

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


def test_without_zstandard_the_message_has_the_command(tmp_path, monkeypatch):
    path = tmp_path / "a.csv.zst"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError, match=r"needs the package zstandard.*rnn-lab\[files\]"):
        list(RecordReader(path, ReadOptions(), labelled=True))
