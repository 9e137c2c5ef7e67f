"""What a tokenizer is, and the tokenizers by name.

A tokenizer of your own is a subclass of VocabularyTokenizer, which has a list of words, or of
Tokenizer:

    @register_tokenizer("mine")
    class MyTokenizer(VocabularyTokenizer): ...
"""

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

import numpy as np

from rnn_lab.errors import ConfigError
from rnn_lab.registry import Registry
from rnn_lab.validation import unknown_choice_message

WORDS_SIZE = 30_000  # ids of words
TEXTS_PER_CALL = 1_000  # of `encode_texts`, where there are many
Unit = Literal["word", "subword", "character"]


class Tokenizer(ABC):
    """Texts -> ids, learned from the training texts of a run. Checkpoints contain its state.

    Id 0 is padding, which no text has, and 1 every unknown token; the others are at most
    `len(tokenizer) - 1`.
    """

    name: ClassVar[str]  # data.tokenizer; `register_tokenizer` sets it
    version: ClassVar[int] = 1  # part of every cache key; raise it when texts get other ids
    unit: ClassVar[Unit]  # what a token is: advice, n-grams and baselines depend on it
    smallest_vocabulary: ClassVar[int] = 3  # the least data.max_vocab_size
    limits_vocabulary: ClassVar[bool] = False  # data.max_vocab_size=null is impossible
    same_ids_as: ClassVar[str | None] = None  # a tokenizer with equal tokens and ids: equal runs

    @abstractmethod
    def __init__(self, state: Any) -> None:
        """Take the `state` of another, from a checkpoint that may be untrusted.

        Raises:
            ValueError: it is not the state of such a tokenizer; the message continues "vocabulary".
        """

    @abstractmethod
    def state(self) -> Any:
        """Return the state for the constructor: None, numbers, strings, lists and dicts."""

    @classmethod
    @abstractmethod
    def train(
        cls,
        texts: Iterable[str],
        unlabelled: Iterable[str] = (),
        *,
        max_vocab_size: int | None,
        min_freq: int,
    ) -> Self:
        """Learn the tokens of texts, each of which is read once.

        Args:
            texts: the training texts.
            unlabelled: more texts, of data.unlabelled.
            max_vocab_size: number of ids, with <pad> and <unk>; None: no limit.
            min_freq: a rarer token is unknown.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of ids."""

    @abstractmethod
    def encode_all(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Return the ids of each text, int64 [0 or more]."""

    @abstractmethod
    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each word of `text`, as an explanation shows it, and its ids, int64 [1 or more].

        All ids, concatenated, are those of `encode_all`.
        """

    def token_ids(self) -> dict[str, int]:
        """Return the id of each token, without <pad> and <unk>; empty: tokens have no spelling."""
        return {}

    def extended(self, other: "Tokenizer", max_vocab_size: int | None = None) -> Self:
        """Return a tokenizer that also knows the tokens which only `other` has.

        This one keeps its ids, and the other's follow, up to `max_vocab_size` ids in total, or
        more if this one has more. One that knows every text returns itself.
        """
        return self

    @classmethod
    def default_vocab_size(cls, characters: float) -> int | None:
        """Return data.max_vocab_size=auto for training texts of so many characters in total."""
        return WORDS_SIZE

    @classmethod
    def check_vocab_size(cls, max_vocab_size: int | None) -> None:
        """Make sure that data.max_vocab_size is possible.

        Raises:
            ValueError: it is not; the message continues the tokenizer's name.
        """
        least = cls.smallest_vocabulary
        if cls.limits_vocabulary if max_vocab_size is None else max_vocab_size < least:
            raise ValueError(f"needs a number, {least} or more")

    @classmethod  # noqa: B027
    def check_usable(cls, option: str) -> None:
        """Make sure that data.tokenizer=`option` can be used here, before texts are read.

        Raises:
            ConfigError: a package or a file is missing or unfit.
        """

    @classmethod
    def from_state(cls, state: Any) -> "Tokenizer":
        """Return the tokenizer of a `state`; the constructor, unless packages may be missing."""
        return cls(state)

    @classmethod
    def version_key(cls) -> list[object]:
        """Return what a cache key has of the tokenizer, beside what it has learned."""
        return [cls.name, cls.version]

    @classmethod
    def plugin_version(cls) -> int | None:
        """Return the version of a plugin's tokenizer; None: a tokenizer of this package."""
        return None if cls.__module__.startswith("rnn_lab.") else cls.version

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the mapping from text to ids, but for the version of this package."""
        version = [] if self.plugin_version() is None else [self.version]
        content = json.dumps([self.same_ids_as or self.name, self.state(), *version])
        return hashlib.sha256(content.encode()).hexdigest()


TOKENIZERS: Registry[type[Tokenizer]] = Registry(
    "tokenizer",
    tuple(
        f"rnn_lab.data.{module}"
        for module in ("vocabulary", "torchtext_backend", "characters", "tokenizer_json", "bpe")
    ),
    ("basic_english", "bpe", "char", "byte", "torchtext", "json"),
)
FROM_FILE = "json"  # the name, in checkpoints, of a tokenizer whose option is the path of a file

AnyTokenizer = TypeVar("AnyTokenizer", bound=Tokenizer)


def register_tokenizer(name: str) -> Callable[[type[AnyTokenizer]], type[AnyTokenizer]]:
    """Register a subclass of Tokenizer as `data.tokenizer=<name>`.

    Raises:
        ConfigError: another tokenizer has that name, or the class is incomplete.
    """
    TOKENIZERS.check_name(name)
    if name == "auto":
        raise ConfigError("tokenizer auto: is the value that chooses one; give another name")

    def register(kind: type[AnyTokenizer]) -> type[AnyTokenizer]:
        if not (isinstance(kind, type) and issubclass(kind, Tokenizer)):
            raise ConfigError(f"tokenizer {name}: must be a subclass of rnn_lab.data.Tokenizer")
        if inspect.isabstract(kind):
            missing = ", ".join(sorted(kind.__abstractmethods__))
            raise ConfigError(f"tokenizer {name}: {kind.__name__} does not define {missing}")
        if getattr(kind, "unit", None) not in get_args(Unit):
            raise ConfigError(
                f"tokenizer {name}: {kind.__name__}.unit must be one of {', '.join(get_args(Unit))}"
            )
        if vars(kind).get("name", name) != name:
            raise ConfigError(f"tokenizer {name}: {kind.__name__} is already tokenizer {kind.name}")
        if (tokenize := getattr(kind, "tokenize", None)) is not None:
            TOKENIZERS.check_call(name, tokenize, "text")
        TOKENIZERS.add(name, kind, kind)
        kind.name = name
        return kind

    return register


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the ids of each text, int64 [0 or more], as `tokenizer.encode_all` does.

    Raises:
        ConfigError: it returned something else, as a plugin may.
    """
    encoded = tokenizer.encode_all(texts)
    problem = ""
    if not isinstance(encoded, list) or len(encoded) != len(texts):
        problem = f"encode_all must return a list of {len(texts)} arrays, one for each text"
    elif not all(isinstance(ids, np.ndarray) and ids.ndim == 1 for ids in encoded):
        problem = "encode_all must return NumPy arrays of one dimension"
    elif encoded and (ids := np.concatenate(encoded)).size:
        if ids.dtype.kind not in "iu":
            problem = f"encode_all must return integers, not {ids.dtype}"
        # Another number would be read as padding, or fail on the device.
        elif not (ids.min() >= 1 and ids.max() < len(tokenizer)):
            problem = f"encodes texts as {ids.min()} to {ids.max()}; ids must be 1 to "
            problem += str(len(tokenizer) - 1)
    if problem:
        raise ConfigError(f"data.tokenizer={tokenizer.name}: {problem}")
    return encoded


def words_of_text(tokenizer: Tokenizer, text: str) -> list[tuple[str, np.ndarray]]:
    """Return each word of `text` and its ids, int64 [1 or more], as `tokenizer.words` does.

    Raises:
        ConfigError: their ids, concatenated, are not those of `encode_all`, as of a plugin.
    """
    words = tokenizer.words(text)
    if tokenizer.plugin_version() is None:
        return words
    try:
        found = [int(id_) for _, ids in words for id_ in ids]
    except (TypeError, ValueError):
        raise _error(tokenizer, "words must return pairs of a word and its ids") from None
    (expected,) = encode_texts(tokenizer, [text])
    if found != expected.tolist():
        raise _error(tokenizer, "words and encode_all return different ids of a text")
    return words


def check_trained(kind: type[Tokenizer], trained: Any) -> None:
    """Make sure that a cache or checkpoint can hold and restore what a plugin's `train` returned.

    Raises:
        ConfigError: it cannot; names the class and the method.
    """
    if kind.plugin_version() is None:
        return
    if not isinstance(trained, kind):
        raise _error(kind, f"train must return a {kind.__name__}, not {type(trained).__name__}")
    try:
        state = json.loads(json.dumps(trained.state()))
    except (TypeError, ValueError) as error:
        raise _error(kind, f"state must return what JSON can contain: {error}") from None
    try:
        kind.from_state(state)
    except Exception as error:  # any, of a plugin
        reason = f"{type(error).__name__}: {error}"
        raise _error(kind, f"__init__ refuses what state returned: {reason}") from error


def _error(tokenizer: Tokenizer | type[Tokenizer], problem: str) -> ConfigError:
    kind = tokenizer if isinstance(tokenizer, type) else type(tokenizer)
    return ConfigError(f"data.tokenizer={kind.name}: {kind.__name__}.{problem}")


def names_file(option: str) -> bool:
    """Return whether data.tokenizer is the path of a tokenizer.json."""
    return option.endswith(".json")


def find_tokenizer(option: str) -> type[Tokenizer]:
    """Return the class for data.tokenizer=`option`, which is not auto.

    Raises:
        ValueError: there is none; the message names the choices.
    """
    if names_file(option):
        return TOKENIZERS[FROM_FILE]
    choices = [name for name in TOKENIZERS if name != FROM_FILE]
    if option not in choices:
        raise ValueError(
            unknown_choice_message("impossible value", option, ["auto", *choices])
            + ", or the path of a tokenizer.json (a tokenizer of your own also needs "
            "plugins=[<its module>])"
        )
    return TOKENIZERS[option]
