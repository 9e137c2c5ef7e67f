import codecs
import io

import pytest

from rnn_lab.data.readers.binary import HEAD_BYTES
from rnn_lab.data.readers.encoding import (
    MIXED,
    choose_encoding,
    detect_encoding,
    detect_file_encoding,
    working_encodings,
)
from rnn_lab.data.readers.records import BadRow, ReadInfo, ReadOptions, Record, RecordReader

TEXT = "Ein schöner Film, très drôle \u2013 “great” €5\n" * 40
OTHERS = {"cp1251": "Очень хороший фильм\n" * 40, "gb18030": "很好的电影。非常好看\n" * 40}


def chunks(content: bytes, size: int) -> list[bytes]:
    return [content[i : i + size] for i in range(0, len(content), size)]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"", "utf-8"),
        (TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), "utf-8"),
        (TEXT.encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16"),
        (TEXT.encode("utf-32"), "utf-32"),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("cp1252"), "cp1252"),
        ("café\n".encode("latin-1"), "cp1252"),
        (b"plain " * 50_000 + b"caf\xe9", "cp1252"),
        (TEXT.encode() + b"\xff\xe9 damage", "utf-8"),
        (b"a \0 in ASCII", "utf-8"),
        (b"a long film \0 in ASCII\n" * 40, "utf-8"),
        (OTHERS["cp1251"].encode("utf-16-le"), "utf-16-le"),
        ((OTHERS["gb18030"] * 9).encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("cp1252") + TEXT.encode(), "utf-8"),
        ("très drôle\n".encode("cp1252") * 8 + "très drôle\n".encode(), MIXED),
        (b"\x81\x8d\x8f caf\xe9", None),
        (b"\xff\xfd\xe9", None),
        *((text.encode(name), None) for name, text in OTHERS.items()),
    ],
)
def test_what_bytes_are(content, encoding):
    for size in (4096, len(content) or 1):
        assert detect_encoding(chunks(content, size)) == encoding


def test_the_chunks_may_cut_characters():
    assert detect_encoding(chunks(OTHERS["gb18030"].encode(), 4)) == "utf-8"
    assert detect_encoding(chunks(TEXT.encode("utf-16-le"), 5)) == "utf-16-le"


def test_every_suggested_encoding_decodes_the_whole_file(tmp_path):
    path = tmp_path / "any.csv"
    for name, text in (OTHERS | {"cp1252": TEXT, "utf-16": TEXT}).items():
        path.write_bytes(text.encode(name))
        found = working_encodings(path, "utf-8")
        assert name in found
        for encoding in found:
            path.read_text(encoding)
        assert working_encodings(path, found[0]) == found[1:]
    path.write_bytes(TEXT.encode() + b"caf\xe9")  # UTF-8 with damage
    assert working_encodings(path, "utf8") == []


def test_auto_reads_a_file_in_its_encoding(tmp_path):
    path = tmp_path / "a.csv"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"):
        path.write_bytes(("text,label\n" + "Die Größe \u2013 naïve,1\n" * 30).encode(encoding))
        reader = RecordReader(path, ReadOptions(), labelled=True)
        assert next(iter(reader)) == Record(2, "Die Größe \u2013 naïve", "1")
        assert reader.info.encoding == detect_file_encoding(path)


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("stream", [Pipe, io.BytesIO])
@pytest.mark.parametrize("format", ["csv", "txt"])
def test_the_head_of_a_stream_may_end_in_a_character(stream, format):
    lines = b"text\n" + b"plain\n" * (HEAD_BYTES // 6 - 1)
    content = lines + b"x" * (HEAD_BYTES - 1 - len(lines)) + "école\ncafé\n".encode()
    reader = RecordReader(stream(content), ReadOptions(format), labelled=False)
    assert [row.text[-5:] for row in reader][-2:] == ["école", "café"]


def test_all_of_a_stream_shows_its_encoding_if_it_can_be_read_again():
    """An upload is read as a file of the same bytes."""
    content = b"text\n" + b"plain words\n" * HEAD_BYTES + "très drôle\n".encode("cp1252")
    stream = io.BytesIO(b"before" + content)
    stream.seek(6)
    reader = RecordReader(stream, ReadOptions("csv"), labelled=False)
    rows = list(reader)
    assert (reader.info.encoding, rows[0].text) == ("cp1252", "plain words")
    assert rows[-1].text == "très drôle"


@pytest.mark.parametrize("stream", [Pipe, io.BytesIO])
def test_the_last_byte_of_a_short_stream_counts(stream):
    reader = RecordReader(stream(b"text\ncaf\xe9"), ReadOptions("csv"), labelled=False)
    assert [row.text for row in reader] == ["café"]


def test_damage_in_a_utf_8_file_costs_its_own_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nGröße,1\nGröße,0\n".encode() + b"caf\xe9,1\n")
    rows = list(RecordReader(path, ReadOptions(), labelled=True))
    assert rows[2] == BadRow(4, "is not utf-8: byte 0xe9")
    assert rows[0] == Record(2, "Größe", "1")


@pytest.mark.parametrize(
    ("detected", "like", "chosen"),
    [
        ("utf-8", "cp1251", "utf-8"),
        ("utf-16", "cp1251", "utf-16"),
        (None, "cp1251", "cp1251"),
        ("cp1252", "cp1251", "cp1251"),
        ("cp1252", "UTF8", "cp1252"),
        ("cp1252", "cp1252", "cp1252"),
        (None, "cp1252", "utf-8"),
        (MIXED, None, "utf-8"),
        (MIXED, "gb18030", "gb18030"),
        (None, "ascii", "utf-8"),
        (None, "no such", "utf-8"),
        (None, None, "utf-8"),
    ],
)
def test_bytes_that_show_no_encoding_have_that_of_the_training_texts(detected, like, chosen):
    assert choose_encoding(detected, like) == chosen


def test_the_encoding_of_training_is_used(tmp_path):
    path = tmp_path / "new.txt"
    path.write_text(OTHERS["cp1251"], encoding="cp1251")
    reader = RecordReader(
        path, ReadOptions(), labelled=False, like=ReadInfo.from_dict({"encoding": "cp1251"})
    )
    assert next(iter(reader)) == Record(1, "Очень хороший фильм", None)
