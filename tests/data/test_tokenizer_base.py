"""Tokenizers of a user: registered, checked, trained, cached, saved and restored."""

import numpy as np
import pytest

from rnn_lab.data import Tokenizer, VocabularyTokenizer, register_tokenizer
from rnn_lab.data.config import DemoConfig, FilesConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.encode import encode_corpus, fit_vocabulary
from rnn_lab.data.statistics import text_warnings
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_base import TOKENIZERS, find_tokenizer
from rnn_lab.data.vocabulary import SPECIALS, WordTokenizer
from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.validation import validate
from tests.data.made import make_corpus


class Spaces(VocabularyTokenizer):
    """Words between spaces, as they are written."""

    unit = "word"

    @staticmethod
    def tokenize(text: str) -> list[str]:
        return text.split(" ")


class Hashes(Tokenizer):
    """Each word is one of `buckets` numbers; nothing is learned but how many there are."""

    unit = "word"

    def __init__(self, state):
        self.buckets = state["buckets"]

    def state(self):
        return {"buckets": self.buckets}

    @classmethod
    def train(cls, texts, unlabelled=(), *, max_vocab_size, min_freq):
        assert all(isinstance(text, str) for text in [*texts, *unlabelled])
        return cls({"buckets": max_vocab_size - 2})

    def __len__(self):
        return self.buckets + 2

    def encode_all(self, texts):
        return [np.array([self._id(word) for word in text.split()], np.int64) for text in texts]

    def words(self, text):
        return [(word, np.array([self._id(word)])) for word in text.split()]

    def _id(self, word):
        return 2 + sum(word.encode()) % self.buckets


@pytest.fixture(autouse=True)
def registered():
    """Register both, and forget what a test registers."""
    before = {name: TOKENIZERS[name] for name in TOKENIZERS}
    register_tokenizer("spaces")(Spaces)
    register_tokenizer("hashes")(Hashes)
    yield
    TOKENIZERS._entries.clear()
    TOKENIZERS._entries.update(before)


@pytest.mark.parametrize("name", ["spaces", "hashes"])
def test_data_and_a_checkpoint_of_a_tokenizer(tmp_path, name) -> None:
    size = {"num_train": 60, "num_test": 20, "max_vocab_size": 50}
    data = TextDataModule(DemoConfig(cache_dir=str(tmp_path), tokenizer=name, **size))
    data.setup()
    encoder = data.text_encoder
    assert type(encoder.vocabulary) is find_tokenizer(name)
    assert encoder.vocab_size == 50
    for row in range(20):
        expected = encoder.encode(data.corpus.test.texts[row])
        assert data.splits["test"][row][: encoder.max_length].tolist() == expected.tolist()

    again = TextEncoder.from_state_dict(encoder.state_dict())
    assert again.fingerprint == encoder.fingerprint
    assert again.encode("A great film").tolist() == encoder.encode("A great film").tolist()
    assert [word for word, _ in again.words("A great film")] == ["A", "great", "film"]


def test_unlabelled_texts_follow_the_words_of_the_labelled_ones() -> None:
    trained = Spaces.train(["b b a"], ["c c d", "a"], max_vocab_size=5, min_freq=1)
    assert trained.state() == ["<pad>", "<unk>", "b", "a", "c"]


def test_another_version_uses_no_cached_tokens(tmp_path, monkeypatch) -> None:
    corpus, rows = make_corpus(["a-b c", "d"]), np.arange(2)
    config = FilesConfig(cache_dir=str(tmp_path), tokenizer="spaces", max_vocab_size=None)

    def encoded() -> tuple[list[str], list[int]]:
        vocabulary = fit_vocabulary(corpus, rows, config)
        return vocabulary.state()[2:], encode_corpus(corpus, vocabulary, tmp_path)["train"][0]

    words, ids = encoded()
    assert (words, len(ids)) == (["a-b", "c", "d"], 2)
    monkeypatch.setattr(Spaces, "tokenize", staticmethod(lambda text: text.split("-")))
    assert encoded()[0] == words  # from the cache
    monkeypatch.setattr(Spaces, "version", 2)
    words, ids = encoded()
    assert (words, len(ids)) == (["a", "b c", "d"], 2)

    vocabulary = fit_vocabulary(corpus, rows, config)
    monkeypatch.setattr(Spaces, "tokenize", staticmethod(lambda text: text.split()))
    monkeypatch.setattr(Spaces, "version", 3)  # the same vocabulary, other ids
    ids = encode_corpus(corpus, vocabulary, tmp_path)["train"][0]
    assert ids.tolist() == [1, 1]


def test_a_subclass_of_the_built_in_words_cuts_in_its_own_way(tmp_path) -> None:
    @register_tokenizer("dashes")
    class Dashes(WordTokenizer):
        @staticmethod
        def tokenize(text):
            return text.split("-")

    assert (Dashes.name, WordTokenizer.name) == ("dashes", "basic_english")
    corpus = make_corpus(["a b-c"])
    config = FilesConfig(cache_dir=str(tmp_path), tokenizer="dashes", max_vocab_size=None)
    vocabulary = fit_vocabulary(corpus, np.arange(1), config)
    assert vocabulary.state()[2:] == ["a b", "c"]
    assert encode_corpus(corpus, vocabulary, tmp_path)["train"][0].tolist() == [2, 3]


@pytest.mark.parametrize(("name", "bad"), [("zero", 0), ("high", 50)])
def test_ids_that_the_network_does_not_have_are_one_line(tmp_path, name, bad) -> None:
    @register_tokenizer(name)
    class Wrong(Hashes):
        def _id(self, word):
            return bad

    config = FilesConfig(cache_dir=str(tmp_path), tokenizer=name, max_vocab_size=50)
    corpus = make_corpus(["a film"])
    vocabulary = fit_vocabulary(corpus, np.arange(1), config)
    with pytest.raises(ConfigError, match=rf"^data\.tokenizer={name}: .* ids must be 1 to 49$"):
        encode_corpus(corpus, vocabulary, tmp_path)


@pytest.mark.parametrize(
    ("encode_all", "message"),
    [
        (lambda texts: [np.array([2])] * (len(texts) - 1), "must return a list of 3 arrays, one"),
        (lambda texts: (np.array([2]) for _ in texts), "must return a list of 3 arrays, one for"),
        (lambda texts: [[2]] * len(texts), "must return NumPy arrays of one dimension"),
        (lambda texts: [np.array([[2]])] * len(texts), "must return NumPy arrays of one dimension"),
        (lambda texts: [np.array([2.5])] * len(texts), "must return integers, not float64"),
    ],
)
def test_what_is_no_encoding_is_one_line(tmp_path, monkeypatch, encode_all, message) -> None:
    """A text less would give the ones after it the labels of their neighbours."""
    monkeypatch.setattr(Hashes, "encode_all", lambda self, texts: encode_all(texts))
    tokenizer, texts = Hashes({"buckets": 48}), ["a film", "b", "c"]
    with pytest.raises(ConfigError, match=rf"^data\.tokenizer=hashes: encode_all {message}"):
        encode_corpus(make_corpus(texts), tokenizer, tmp_path)
    with pytest.raises(ConfigError, match=rf"^data\.tokenizer=hashes: encode_all {message}"):
        TextEncoder(tokenizer, 9, "left").encode_all(texts)


def test_a_checkpoint_of_another_version_is_refused(monkeypatch) -> None:
    encoder = TextEncoder(Hashes({"buckets": 48}), 9, "left")
    saved, fingerprint = encoder.state_dict(), encoder.fingerprint
    monkeypatch.setattr(Hashes, "version", 2)
    assert encoder.fingerprint != fingerprint  # of the signature with which a run resumes
    with pytest.raises(CheckpointError, match=r"of version 1 of the tokenizer hashes, now version"):
        TextEncoder.from_state_dict(saved)
    built_in = TextEncoder(WordTokenizer(["<pad>", "<unk>", "a"]), 9, "left")
    assert "tokenizer_version" not in built_in.state_dict()


@pytest.mark.parametrize("buckets", [10**30, -5])
def test_a_state_of_an_impossible_size_is_one_line(buckets) -> None:
    saved = TextEncoder(Hashes({"buckets": 3}), 9, "left").state_dict()
    saved["vocabulary"] = {"buckets": buckets}
    with pytest.raises(CheckpointError, match=r"^text encoder: hashes vocabulary "):
        TextEncoder.from_state_dict(saved)


@pytest.mark.parametrize("state", [None, {}, {"bucket": 3}, {"buckets": "3"}, []])
def test_a_state_that_a_plugin_does_not_check_is_one_line(state) -> None:
    @register_tokenizer("unchecked")
    class Unchecked(Hashes):
        def __init__(self, state):
            self.buckets = state["buckets"] + 0

    saved = {"tokenizer": "unchecked", "vocabulary": state}
    saved |= {"max_length": 9, "truncation_side": "left"}
    with pytest.raises(CheckpointError, match=r"^text encoder: unchecked vocabulary ") as error:
        TextEncoder.from_state_dict(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["space", "json", "os.system", "Auto"])
def test_an_unknown_name_is_one_line_with_the_choices(name) -> None:
    with pytest.raises(ConfigError, match=rf"^tokenizer={name}: impossible value") as error:
        validate(DemoConfig, {"source": "demo", "tokenizer": name})
    line = str(error.value)
    choices = "auto, basic_english, bpe, byte, char, hashes, spaces, torchtext, or the path"
    assert choices in line
    assert "plugins=[<its module>]" in line
    assert ("Did you mean spaces?" in line) is (name == "space")


def test_the_sizes_that_a_tokenizer_can_have() -> None:
    @register_tokenizer("limited")
    class Limited(Hashes):
        smallest_vocabulary, limits_vocabulary = 10, True

    for size in (None, 9):
        with pytest.raises(ConfigError, match=r"data\.tokenizer=limited needs a number, 10 or"):
            validate(DemoConfig, {"source": "demo", "tokenizer": "limited", "max_vocab_size": size})
    validate(DemoConfig, {"source": "demo", "tokenizer": "limited", "max_vocab_size": 10})


def test_warnings_call_its_tokens_by_their_unit() -> None:
    unknown = {"examples": 9, "median_length": 9.0, "max_length": 9, "truncated": 0.0}
    found = {name: {**unknown, "unknown": 0.5} for name in ("train", "validation")}
    (line,) = text_warnings(found, "spaces")
    assert "unknown words" in line


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("char", type("C", (Spaces,), {}), "tokenizer char is registered twice, by rnn_lab"),
        ("auto", Spaces, "tokenizer auto: is the value"),
        ("two words", type("D", (Spaces,), {}), "'two words': the name of a tokenizer is one word"),
        ("mine", Spaces, "tokenizer mine: Spaces is already tokenizer spaces"),
        ("mine", str, "tokenizer mine: must be a subclass of rnn_lab.data.Tokenizer"),
        ("mine", type("A", (VocabularyTokenizer,), {"unit": "word"}), "does not define tokenize$"),
        (
            "mine",
            type("C", (Spaces,), {"tokenize": lambda self, text: []}),
            r"tokenizer mine: <lambda>\(self, text\) is called with \(text\): missing a required",
        ),
        ("mine", type("B", (Spaces,), {"unit": "letter"}), r"B\.unit must be one of word, subw"),
    ],
)
def test_a_mistake_of_a_class_is_one_line(name, kind, message) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        register_tokenizer(name)(kind)
    assert "\n" not in str(error.value)


def refuse(self, state):
    raise LookupError("buckets")


@pytest.mark.parametrize(
    ("method", "function", "message"),
    [
        (
            "train",
            classmethod(lambda cls, *_, **options: None),
            "must return a Wrong, not NoneType",
        ),
        ("state", lambda self: {1, 2}, "must return what JSON can contain: .* set is not JSON"),
        ("from_state", classmethod(refuse), "__init__ refuses what state returned: LookupError"),
    ],
)
def test_a_tokenizer_that_cannot_be_saved_is_one_line(tmp_path, method, function, message) -> None:
    register_tokenizer("wrong")(type("Wrong", (Hashes,), {method: function}))
    config = FilesConfig(cache_dir=str(tmp_path), tokenizer="wrong", max_vocab_size=50)
    name = "" if method == "from_state" else f"{method} "
    with pytest.raises(
        ConfigError, match=rf"^data\.tokenizer=wrong: Wrong\.{name}{message}"
    ) as found:
        fit_vocabulary(make_corpus(["a film"]), np.arange(1), config)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            lambda self, text: [(text, np.array([2]))],
            "words and encode_all return different ids of",
        ),
        (lambda self, text: text.split(), "words must return pairs of a word and its ids"),
        (lambda self, text: [("a", 2)], "words must return pairs of a word and its ids"),
    ],
)
def test_words_that_are_not_those_of_the_ids_are_one_line(words, message) -> None:
    wrong = register_tokenizer("wrong")(type("Wrong", (Hashes,), {"words": words}))
    encoder = TextEncoder(wrong({"buckets": 8}), 100, "right")
    with pytest.raises(ConfigError, match=rf"^data\.tokenizer=wrong: Wrong\.{message}"):
        encoder.words("a long film")


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        ("a b", "tokenize returned str, expected a list of str"),
        (None, "tokenize returned NoneType, expected a list of str"),
        ([1, 2], "tokenize returned 1 in a list, expected str"),
    ],
)
def test_what_tokenize_returns_is_checked(tokens, line):
    wrong = type("Wrong", (Spaces,), {"tokenize": staticmethod(lambda text: tokens), "name": "odd"})
    with pytest.raises(ConfigError, match=f"^data.tokenizer=odd: {line}$"):
        wrong.train(["a b"], max_vocab_size=None, min_freq=1)
    if not isinstance(tokens, list):
        with pytest.raises(ConfigError, match=f"^data.tokenizer=odd: {line}$"):
            wrong(SPECIALS).encode_all(["a b"])
