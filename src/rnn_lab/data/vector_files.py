"""Read word vectors from the files of word2vec, GloVe and fastText (.vec), as text or binary.

A file is read once, from its start, and only the vectors of wanted words are kept. Nothing in it is
run, and a damaged or crafted one takes no more memory than a line or a vector.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rnn_lab.data.readers.binary import READ_ERRORS, decompressed_name, open_binary, read_error
from rnn_lab.errors import DataError
from rnn_lab.paths import local_path

_SUFFIXES = (".vec", ".txt", ".bin")
_FASTTEXT = bytes.fromhex("ba164f2f")  # begins a model of fastText, another format of .bin
_LONGEST_HEADER = 100  # bytes
_LONGEST_WORD = 2**12  # bytes
_LONGEST_LINE = 2**20  # bytes
_LARGEST_VECTOR = 2**16  # numbers
_READ_BYTES = 2**20

_Vectors = Iterator[tuple[int, np.ndarray]]  # id of a word; its vector, float32 [dim]


def is_vector_file(path: str) -> bool:
    """Return whether a path ends as those that `read_vectors` reads, perhaps with .gz or .zst."""
    return Path(decompressed_name(path)).suffix.lower() in _SUFFIXES


def read_vectors(path: str, ids: Mapping[str, int], dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of the words that `ids` names; of a word that occurs twice, the first.

    Args:
        path: .bin is the binary format of word2vec. Other files have a line per word, the word and
            `dim` numbers, separated by spaces, below a line of two numbers (word2vec, fastText) or
            none (GloVe).
        ids: the id of each wanted word.
        dim: numbers of a vector.

    Returns:
        The ids that were found, int64 [words], ascending; their vectors, float32 [words, dim].

    Raises:
        DataError: the file cannot be read or is malformed, or its vectors have another size.
    """
    wanted = {word.encode("utf-8", "surrogatepass"): i for word, i in ids.items()}
    found: dict[int, np.ndarray] = {}
    is_binary = Path(decompressed_name(path)).suffix.lower() == ".bin"
    read = _binary_vectors if is_binary else _text_vectors
    try:
        with open_binary(local_path(path)) as stream:
            for i, vector in read(stream, path, wanted, dim):
                found.setdefault(i, vector)
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read: {read_error(error)}") from error
    rows = sorted(found)
    vectors = np.array([found[i] for i in rows], np.float32).reshape(len(rows), dim)
    if not np.isfinite(vectors).all():
        raise DataError(f"{path}: has values that are not finite numbers")
    return np.array(rows, np.int64), vectors


def read_words(path: str) -> Iterator[str]:
    """Yield the words of a file that `read_vectors` reads, in its order: frequent ones come first.

    Raises:
        DataError: the file cannot be read, or the part that was read is malformed.
    """
    is_binary = Path(decompressed_name(path)).suffix.lower() == ".bin"
    try:
        with open_binary(local_path(path)) as stream:
            words = _binary_words(stream, path) if is_binary else _text_words(stream)
            for word in words:
                yield word.decode("utf-8", "replace")
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read: {read_error(error)}") from error


def _text_words(stream: BinaryIO) -> Iterator[bytes]:
    line = stream.readline(_LONGEST_LINE)
    if _is_header(line.split()):
        line = stream.readline(_LONGEST_LINE)
    while line:
        yield line[: line.find(b" ")]
        line = stream.readline(_LONGEST_LINE)


def _binary_words(stream: BinaryIO, path: str) -> Iterator[bytes]:
    return (word for word, _ in _binary_records(stream, path, *_binary_header(stream, path)))


def _is_header(fields: list[bytes]) -> bool:
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _check_size(path: str, size: int, dim: int) -> None:
    if size != dim:
        raise DataError(
            f"{path}: has vectors of {size} numbers, and model.embedding_dim is {dim}; "
            f"give model.embedding_dim={size}"
        )


def _text_vectors(stream: BinaryIO, path: str, wanted: Mapping[bytes, int], dim: int) -> _Vectors:
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        fields = line.split()
        if number == 1:
            if _is_header(fields):
                _check_size(path, int(fields[1]), dim)
                continue
            _check_size(path, len(fields) - 1, dim)
        # Most words are not wanted: a line is cut into numbers only if its first word is.
        if line[: line.find(b" ")] not in wanted:
            continue
        word, *numbers = line.rstrip().rsplit(b" ", dim)  # a word of GloVe may have spaces
        if word not in wanted:
            continue
        try:
            vector = np.array([float(text) for text in numbers], np.float32)
        except ValueError:
            raise DataError(f"{path}:{number}: is not a word and {dim} numbers") from None
        if len(vector) != dim:
            raise DataError(f"{path}:{number}: has {len(vector)} numbers, not {dim}")
        yield wanted[word], vector


def _binary_vectors(stream: BinaryIO, path: str, wanted: Mapping[bytes, int], dim: int) -> _Vectors:
    count, size = _binary_header(stream, path)
    _check_size(path, size, dim)
    for word, vector in _binary_records(stream, path, count, size):
        if word in wanted:
            yield wanted[word], np.frombuffer(vector, "<f4").astype(np.float32)


def _binary_header(stream: BinaryIO, path: str) -> tuple[int, int]:
    """Return how many vectors there are, and of how many numbers."""
    header = stream.readline(_LONGEST_HEADER)
    fields = header.split()
    if not _is_header(fields):
        hint = "; of fastText give the .vec file" if header.startswith(_FASTTEXT) else ""
        raise DataError(f"{path}: is not in the binary format of word2vec{hint}")
    count, size = map(int, fields)
    if size > _LARGEST_VECTOR:
        raise DataError(f"{path}: has vectors of {size} numbers, more than {_LARGEST_VECTOR:,}")
    return count, size


def _binary_records(
    stream: BinaryIO, path: str, count: int, size: int
) -> Iterator[tuple[bytes, bytes]]:
    """Yield each word and the bytes of its vector, float32 [size], little-endian."""
    buffer, start = b"", 0
    for number in range(count):
        while True:
            end = buffer.find(b" ", start, start + _LONGEST_WORD)
            if end >= 0 and end + 1 + 4 * size <= len(buffer):
                break
            is_damaged = end < 0 and len(buffer) - start > _LONGEST_WORD
            chunk = stream.read(_READ_BYTES)
            if is_damaged or not chunk:
                what = "is damaged" if is_damaged else "is cut off"
                raise DataError(f"{path}: {what} after {number:,} of {count:,} vectors")
            buffer, start = buffer[start:] + chunk, 0
        word = buffer[start:end].lstrip(b"\n")  # word2vec itself ends a vector with a line feed
        start = end + 1 + 4 * size
        yield word, buffer[end + 1 : start]
