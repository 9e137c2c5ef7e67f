"""Vectors are gensim's own of the same file; what cannot be read is refused in one line."""

import gzip

import numpy as np
import pytest
from gensim.models import KeyedVectors

from rnn_lab.data.vector_files import is_vector_file, read_vectors, read_words
from rnn_lab.errors import DataError

WORDS = ["the", "film", "naïve", "of", "New_York", "."]
IDS = {"film": 7, "naïve": 2, ".": 5, "absent": 3}
DIM = 4


@pytest.fixture(scope="module")
def keyed() -> KeyedVectors:
    vectors = KeyedVectors(DIM)
    values = np.random.default_rng(0).normal(size=(len(WORDS), DIM)).astype(np.float32)
    vectors.add_vectors(WORDS, values)
    return vectors


@pytest.mark.parametrize("kind", ["mine.vec", "glove.txt", "mine.vec.gz", "mine.bin", "google.bin"])
def test_vectors_are_those_of_gensim(tmp_path, keyed, kind):
    path = tmp_path / kind
    plain = tmp_path / kind.removesuffix(".gz")
    binary = kind.endswith(".bin")
    has_header = kind != "glove.txt"
    keyed.save_word2vec_format(str(plain), binary=binary, write_header=has_header)
    if kind == "google.bin":  # word2vec itself ends each vector with a line feed
        rows = (w.encode() + b" " + keyed[w].tobytes() + b"\n" for w in WORDS)
        path.write_bytes(b"%d %d\n" % (len(WORDS), DIM) + b"".join(rows))
    if kind.endswith(".gz"):
        path.write_bytes(gzip.compress(plain.read_bytes()))
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=binary, no_header=not has_header)
    ids, vectors = read_vectors(str(path), IDS, DIM)
    assert ids.tolist() == [2, 5, 7]
    np.testing.assert_array_equal(vectors, theirs[["naïve", ".", "film"]])
    assert list(read_words(str(path))) == theirs.index_to_key


def test_a_binary_file_longer_than_one_read_is_read_to_its_end(tmp_path, monkeypatch, keyed):
    monkeypatch.setattr("rnn_lab.data.vector_files._READ_BYTES", 5)
    keyed.save_word2vec_format(str(tmp_path / "mine.bin"), binary=True)
    _, vectors = read_vectors(str(tmp_path / "mine.bin"), IDS, DIM)
    np.testing.assert_array_equal(vectors, keyed[["naïve", ".", "film"]])


def test_of_a_word_that_occurs_twice_the_first_counts_and_words_may_have_spaces(tmp_path):
    (tmp_path / "mine.txt").write_text("a b 9 9\na 1 2\na 3 4\n. . 5 6\n")
    with pytest.raises(DataError, match="vectors of 3 numbers"):  # its first line is ambiguous
        read_vectors(str(tmp_path / "mine.txt"), {"a": 2}, 2)
    (tmp_path / "mine.txt").write_text("a 1 2\na b 9 9\na 3 4\n. . 5 6\n")
    ids, vectors = read_vectors(str(tmp_path / "mine.txt"), {"a": 2, ".": 3}, 2)
    assert (ids.tolist(), vectors.tolist()) == ([2], [[1, 2]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.vec", b"2 3\nfilm 1 2 3\n", "vectors of 3 numbers, and model.embedding_dim is 4"),
        ("x.txt", b"film 1 2 3\n", "give model.embedding_dim=3"),
        ("x.txt", b"the 1 2 3 4\nfilm 1 2 3 x\n", "x.txt:2: is not a word and 4 numbers"),
        ("x.txt", b"the 1 2 3 4\nfilm 1 2 3\n", "x.txt:2: has 3 numbers, not 4"),
        ("x.txt", b"film 1 2 3 nan\n", "not finite"),
        ("x.bin", b"2 4\nthe " + bytes(16) + b"film " + bytes(15), "cut off after 1 of 2 vectors"),
        ("x.bin", b"2 5\n", "give model.embedding_dim=5"),
        ("x.bin", b"9 4\n" + b"x" * 10_000, "is damaged after 0 of 9 vectors"),
        ("x.bin", bytes.fromhex("ba164f2f") + bytes(99), "of fastText give the .vec file"),
        ("x.bin", b"", "is not in the binary format of word2vec"),
        ("x.vec.gz", b"no gzip", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_vectors(str(tmp_path / name), IDS, DIM)
    (line,) = str(error.value).splitlines()
    assert line.startswith(str(tmp_path / name)) and message in line


def test_endings():
    assert all(map(is_vector_file, ("a.vec", "b.TXT.gz", "c.bin", "d.vec.zst")))
    assert not any(map(is_vector_file, ("skipgrams", "a.npy", "a.gz", "a.pt")))
