"""Skip-gram from the texts of a run and from unlabelled ones, and vectors of a file; the cache."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from rnn_lab.data.config import AutoConfig, FilesConfig, ImdbConfig, TextOptions
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.unlabelled import find_unlabelled
from rnn_lab.data.word_vectors import WordVectors, learn_skipgram
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.io.atomic import atomic_write
from rnn_lab.validation import validate
from tests.data.made import random_texts

DIM = 8


def write_texts(path: Path) -> str:
    """Write 200 labelled texts; every tenth is odd."""
    texts = [text or "word1 word2" for text in random_texts(200)]
    with atomic_write(path) as file:
        file.write("text,label\n")
        file.writelines(f"{text},{'good' if i % 2 else 'bad'}\n" for i, text in enumerate(texts))
    return str(path)


@pytest.fixture(scope="module")
def train_path(tmp_path_factory) -> str:
    return write_texts(tmp_path_factory.mktemp("texts") / "mine.csv")


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def load(train_path, shared_cache):
    def load_data(**options) -> TextDataModule:
        options = {"train_path": train_path, "cache_dir": shared_cache} | options
        data = TextDataModule(FilesConfig(**options))
        data.setup()
        return data

    return load_data


def test_vectors_of_a_file_and_their_coverage(load, tmp_path):
    path = tmp_path / "mine.vec"
    tokens = load().text_encoder.vocabulary.tokens
    lines = [f"{tokens[i]} {i} 0.5" for i in (5, 2, 9)]
    path.write_text("\n".join(["4 2", *lines, "elsewhere 1 1"]))
    data = load(vectors=str(path), max_vocab_size=len(tokens))
    assert data.text_encoder.vocabulary.tokens == tokens
    found = data.word_vectors(2)
    assert found.ids.tolist() == [2, 5, 9]
    assert found.vectors.tolist() == [[2, 0.5], [5, 0.5], [9, 0.5]]
    train = data.splits["train"]
    words = np.concatenate([train[row] for row in range(len(train))])
    assert found.about["coverage"] == {
        "vocabulary": 3 / (len(tokens) - 2),
        "training_tokens": np.isin(words, [2, 5, 9]).mean(),
    }
    path.write_text("\n".join(["4 2", "elsewhere 1 1"]))
    with pytest.raises(DataError, match=r"has none of the \d+ words of the vocabulary"):
        load(vectors=str(path)).word_vectors(2)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        data.word_vectors(2)
    with pytest.raises(DataError, match="no such file"):
        load(vectors=str(path))


def test_words_that_only_the_file_has_are_known(load, tmp_path):
    tokens = load().text_encoder.vocabulary.tokens
    path = tmp_path / "mine.vec"
    lines = [
        f"{tokens[3]} 1 2",
        "Zyzzyva 3 4",
        "zyzzyva 5 6",
        "<unk> 7 8",
        "zyzzyva 9 9",
        "qoph 1 0",
    ]
    path.write_text("\n".join(lines))

    def known(**options):
        data = load(vectors=str(path), **options)
        found = data.word_vectors(2)
        vectors = dict(zip(found.ids.tolist(), found.vectors.tolist(), strict=True))
        vocabulary = data.text_encoder.vocabulary.tokens
        assert vocabulary[: len(tokens)] == tokens
        return {word: vectors[vocabulary.index(word)] for word in vocabulary[len(tokens) :]}

    assert known() == {"zyzzyva": [5, 6], "qoph": [1, 0]}  # no text has a capital letter
    assert known(max_vocab_size=len(tokens) + 1) == {"zyzzyva": [5, 6]}
    assert known(max_vocab_size=None) == {}


def test_words_with_the_same_neighbours_have_similar_vectors():
    rng = np.random.default_rng(0)
    texts = [
        np.array([x for _ in range(20) for x in (10 + g, rng.choice([2 + 2 * g, 3 + 2 * g]))])
        for g in rng.integers(0, 4, 400)
    ]
    texts[0] = np.append(texts[0], [0, 1, 99])  # padding, unknown, and a rare word

    def learn() -> tuple[np.ndarray, np.ndarray]:
        return learn_skipgram(lambda: iter(texts), DIM, epochs=10, window=2, total=400)

    ids, vectors = learn()
    assert ids.tolist() == [*range(2, 10), *range(10, 14)]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = unit @ unit.T
    for word in range(8):
        others = [i for i in range(8) if i // 2 != word // 2]
        assert similar[word, word ^ 1] > similar[word, others].max()
    again = learn()
    np.testing.assert_array_equal(ids, again[0])
    np.testing.assert_array_equal(vectors, again[1])


def test_few_texts_teach_no_vectors():
    ids, vectors = learn_skipgram(lambda: iter([np.array([2, 3])]), 4, epochs=1, window=2, total=1)
    assert (ids.shape, vectors.shape) == ((0,), (0, 4))


def learned(data: TextDataModule) -> WordVectors:
    return data.word_vectors(DIM)


def test_unlabelled_texts_are_read_but_for_those_held_out(load, tmp_path, monkeypatch):
    plain = load(vectors="skipgram", vectors_epochs=1)
    held_out = plain.corpus.test.texts[0]
    validated = plain.texts_of("validation")[0][3]
    more = random_texts(60, seed=1)
    lines = [held_out.upper(), "", *more, f"{validated} ", f"{validated} word9", "zebra"]
    (tmp_path / "more.txt").write_text("\n".join(lines))
    (tmp_path / "more.csv").write_text("title,text\nx,word1 word2\ny,zebra zebra\n")
    files = [str(tmp_path / name) for name in ("more.txt", "more.csv")]
    data = load(vectors="skipgram", vectors_epochs=1, unlabelled=files)
    found = learned(data)
    num_texts = sum(bool(line) for line in lines) + 2
    copies = 2 + sum(text in ("", held_out, validated) for text in more if text)
    assert found.about["texts"] == {
        "training": len(data.splits["train"]),
        "unlabelled": num_texts - copies,
        "held_out": copies,
    }
    assert found.vectors.shape == (len(found.ids), DIM) and found.ids.min() >= 2
    assert found.about["coverage"]["training_tokens"] > 0.9
    assert found.about["fingerprint"] != learned(plain).about["fingerprint"]
    again = load(
        vectors="skipgram",
        vectors_epochs=1,
        unlabelled=files,
        cache_dir=str(tmp_path / "other cache"),
    )
    assert learned(again).about == found.about
    np.testing.assert_array_equal(learned(again).vectors, found.vectors)
    monkeypatch.setattr("rnn_lab.data.word_vectors.learn_skipgram", None)  # the cache has them
    assert learned(data).about == found.about
    moved = [shutil.copy(file, tmp_path / f"moved_{Path(file).name}") for file in files]
    data = load(vectors="skipgram", vectors_epochs=1, unlabelled=[str(file) for file in moved])
    assert learned(data).about == found.about  # also of the same texts in another place


def test_the_test_split_teaches_nothing(tmp_path):
    """Other words in the test texts, the same vectors."""
    train_path = write_texts(tmp_path / "train.csv")
    (tmp_path / "more.txt").write_text("\n".join(filter(None, random_texts(40, seed=1))))
    vectors = []
    for word in ("word1", "word2"):
        test_path = tmp_path / f"{word}.csv"
        test_path.write_text("text,label\n" + f"zebra {word},good\nnot {word},bad\n" * 9)
        config = FilesConfig(
            train_path=train_path,
            test_path=str(test_path),
            cache_dir=str(tmp_path / "cache"),
            vectors="skipgram",
            vectors_epochs=1,
            unlabelled=str(tmp_path / "more.txt"),
        )
        data = TextDataModule(config)
        data.setup()
        vectors.append(learned(data).vectors)
    np.testing.assert_array_equal(*vectors)


def test_characters_and_subwords_have_vectors_of_skipgram(load):
    for tokenizer in ("char", "bpe", "byte"):
        data = load(tokenizer=tokenizer, vectors="skipgram", vectors_epochs=1)
        assert learned(data).about["coverage"]["training_tokens"] > 0.9


def test_a_file_has_no_vectors_of_subwords(load, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.tokenizer=bpe cuts texts into other tokens"):
        load(tokenizer="bpe", vectors=str(tmp_path / "mine.vec")).word_vectors(DIM)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": "glove"}, "Choose from: null, skipgram, or the path"),
        ({"unlabelled": True, "vectors": "skipgram"}, "only data=imdb has unlabelled texts"),
        ({"unlabelled": [], "vectors": "skipgram"}, "give a file or a list of files"),
        ({"vectors_window": 0}, "greater than 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError) as error:
        validate(FilesConfig, {"train_path": "x.csv"} | options)
    (line,) = str(error.value).splitlines()
    assert message in line


def test_no_unlabelled_texts_are_a_choice_too():
    assert find_unlabelled(FilesConfig(train_path="x.csv", unlabelled=False)) is None
    assert ImdbConfig(vectors="skipgram", unlabelled=True).unlabelled is True
    assert TextOptions(source="files").unlabelled is None
    auto = AutoConfig(vectors="skipgram", unlabelled=True)
    assert auto.imdb().unlabelled is True
    assert (auto.fallback().vectors, auto.fallback().unlabelled) == ("skipgram", None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("more.txt", None, "no such file"),
        ("more.xyz", b"a", "unknown file ending"),
        ("more.txt", b"fine\nan\0error\n", "more.txt:2: contains a NUL character"),
    ],
)
def test_unlabelled_files_that_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    config = {"train_path": "x.csv", "vectors": "skipgram", "unlabelled": str(tmp_path / name)}
    with pytest.raises(DataError, match=message):
        list(find_unlabelled(FilesConfig(**config)))
    if content and name == "more.txt":
        skipping = FilesConfig(**config, on_bad_lines="skip")
        assert list(find_unlabelled(skipping)) == ["fine"]
