"""Properties that hold for any bytes: each target takes bytes and fails if one does not hold.

`test_targets.py` gives them Hypothesis's bytes, `python -m tests.fuzz` atheris's.
"""

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from rnn_lab.data.basic_english import basic_english, number_tokens
from rnn_lab.data.bpe import SubwordTokenizer
from rnn_lab.data.characters import ByteTokenizer, CharacterTokenizer
from rnn_lab.data.readers.binary import describe_binary
from rnn_lab.data.readers.records import (
    BadRow,
    ReadOptions,
    Record,
    RecordReader,
)
from rnn_lab.data.sources.imdb import MAX_FILE_BYTES, _archive_members, _is_part
from rnn_lab.data.vocabulary import PAD_ID, SPECIALS, WordTokenizer
from rnn_lab.errors import DataError, UserError
from rnn_lab.inference.predict import predict
from tests.data.torchtext_answers import basic_english_of_torchtext

Target = Callable[[bytes], None]

FORMATS = ("csv", "tsv", "jsonl", "txt")
MORE_FORMATS = (*FORMATS, "json", "label_text")
ENCODINGS = ("utf-8", "utf-16", "utf-16-le", "latin-1", "utf-32", "shift_jis", "utf-7", "auto")
WORDS = WordTokenizer([*SPECIALS, "a", "film", "the", "good", "'", "."])
SUBWORDS = SubwordTokenizer.train(
    ["a good film", "the bad film's end", "Größe 映画"] * 5, max_vocab_size=300, min_freq=2
)
CHARACTERS = CharacterTokenizer([*SPECIALS, " ", "a", "e", "é", "映"])


def read(data: bytes) -> None:
    """Read any file: rows in order, each usable or with a reason, or a one-line error."""
    kind, content = data[0] if data else 0, data[1:]
    format, labelled = FORMATS[kind % 4], bool(kind & 4) and kind % 4 != 3
    if kind & 64:
        format = MORE_FORMATS[kind % len(MORE_FORMATS)]
        labelled = labelled and format != "txt"
    encoding = ENCODINGS[(kind >> 3) % len(ENCODINGS)]
    column = "text" if kind & 128 else None
    options = ReadOptions(format, encoding, text_column=column)
    rows: list[Record | BadRow] = []
    refused = False
    try:
        for row in RecordReader(io.BytesIO(content), options, labelled=labelled):
            rows.append(row)
    except DataError as error:
        refused = True
        assert str(error).isprintable(), repr(error)
    assert all(before.line < after.line for before, after in pairwise(rows))
    for row in rows:
        if isinstance(row, BadRow):
            assert row.reason.isprintable(), repr(row.reason)
        else:
            assert row.text.strip()
            assert "\0" not in row.text
            row.text.encode("utf-8")  # no lone surrogate
            assert (row.label is not None) == labelled
            if isinstance(row.label, str):
                assert row.label.strip() == row.label != ""
            else:
                assert all(label.strip() == label for label in row.label or ())
    if format != "txt" or encoding != "utf-8":
        return
    if refused:
        assert describe_binary(content)
    elif b"\n" in content:
        lines = content.split(b"\n")
        assert [row.line for row in rows] == list(range(1, len(lines) + (lines[-1] != b"")))
        for row, line in zip(rows[1:], lines[1:], strict=False):  # lines are independent
            _, alone = RecordReader(
                io.BytesIO(b"\n" + line + b"\n"), ReadOptions("txt", "utf-8"), labelled=False
            )
            assert replace(alone, line=row.line) == row


def tokenize(data: bytes) -> None:
    """Tokenize any text: the tokens of torchtext, and ids that are never the padding id."""
    text = data.decode("utf-8", "surrogateescape")
    tokens = basic_english(text)
    assert tokens == basic_english_of_torchtext(text)
    assert all(token == "".join(token.split()) != "" for token in tokens)
    numbered, numbers, lengths = number_tokens([text, text])
    assert [numbered[number] for number in numbers] == tokens * 2
    assert list(lengths) == [len(tokens)] * 2
    for vocabulary in (WORDS, SUBWORDS, CHARACTERS, ByteTokenizer()):
        (ids,) = vocabulary.encode_all([text])
        assert ids.dtype == np.int64
        assert not len(ids) or PAD_ID < ids.min() <= ids.max() < len(vocabulary)
        words = vocabulary.words(text)
        assert [i for _, of_word in words for i in of_word] == ids.tolist()


def unpack(data: bytes) -> None:
    """Unpack any archive: parts of the data set within the size limits, or a one-line error.

    The first byte says whether the rest is the archive, what has been packed, or that with its
    checksums put right.
    """
    kind, content = data[0] % 3 if data else 0, data[1:]
    if kind == 0:
        content = _with_checksums(content)
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        file.write(content if kind == 2 else gzip.compress(content, 1, mtime=0))
        file.flush()
        try:
            for name, member in _archive_members(Path(file.name)):
                assert _is_part(name)
                assert len(member) <= MAX_FILE_BYTES
        except DataError as error:
            assert str(error).startswith(f"{file.name}: ")


def _with_checksums(content: bytes) -> bytes:
    """Correct the checksum of every block that may be a tar header; tarfile reads no other."""
    blocks = [content[start : start + 512] for start in range(0, len(content), 512)]
    for place, block in enumerate(blocks):
        if len(block) == 512 and (place == 0 or block[257:262] == b"ustar"):
            blank = block[:148] + b" " * 8 + block[156:]
            blocks[place] = block[:148] + b"%06o\0 " % sum(blank) + block[156:]
    return b"".join(blocks)


def predict_with(run: Path) -> Target:
    """Return a target that labels any file: a complete output with every row, or no output."""

    def label(data: bytes) -> None:
        kind, content = data[0] if data else 0, data[1:]
        format, ending = FORMATS[kind % 4], (".jsonl", ".csv")[kind >> 2 & 1]
        with tempfile.TemporaryDirectory() as folder:
            source, output = Path(folder) / "any", Path(folder) / f"out{ending}"
            source.write_bytes(content)
            options = {"run": str(run), "input": str(source), "output": str(output)}
            try:
                with redirect_stderr(io.StringIO()):
                    predict(options | {"format": format})
            except UserError as error:
                assert str(source) in str(error)
                assert "\n" not in str(error)
            assert set(Path(folder).iterdir()) <= {source, output}
            if ending == ".jsonl" and output.exists():
                rows = list(RecordReader(source, ReadOptions(format), labelled=False))
                answers = output.read_text(encoding="utf-8").split("\n")
                assert answers.pop() == ""
                for row, line in zip(rows, answers, strict=True):
                    answer = json.loads(line)
                    assert answer["line"] == row.line
                    assert ("error" in answer) == isinstance(row, BadRow)
                    if isinstance(row, Record):
                        probabilities = answer["probabilities"].values()
                        assert abs(sum(probabilities) - 1) < 1e-5

    return label
