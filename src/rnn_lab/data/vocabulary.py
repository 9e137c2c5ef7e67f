"""Words -> ids, in the order of torchtext."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from rnn_lab.data.basic_english import BASIC_ENGLISH_VERSION, basic_english
from rnn_lab.data.tokenizer_base import Tokenizer, register_tokenizer
from rnn_lab.errors import ConfigError

PAD, UNK = "<pad>", "<unk>"
PAD_ID, UNK_ID = 0, 1
SPECIALS = (PAD, UNK)


def sort_by_frequency(
    tokens: Sequence[str],
    counts: Sequence[int],
    *,
    min_freq: int = 1,
    max_tokens: int | None = None,
    specials: Sequence[str] = SPECIALS,
) -> list[str]:
    """Return the specials, then the tokens by falling frequency, equal ones in alphabetical order.

    This is the order of torchtext 0.18's `build_vocab_from_iterator(..., special_first=True)`.
    `max_tokens` counts the specials. Tokens of count 0 are dropped.
    """
    by_frequency = sorted(zip(tokens, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))
    if max_tokens is not None:
        by_frequency = by_frequency[: max_tokens - len(specials)]
    min_freq = max(min_freq, 1)
    return list(specials) + [
        token for token, n in by_frequency if n >= min_freq and token not in specials
    ]


class VocabularyTokenizer(Tokenizer):
    """A list of tokens and their ids. A subclass has `unit` and defines `tokenize`."""

    @staticmethod
    @abstractmethod
    def tokenize(text: str) -> list[str]:
        """Return the tokens of `text`."""

    def __init__(self, state: Sequence[str]) -> None:
        """Take the tokens in the order of their ids.

        Raises:
            ValueError: `state` is not a list of distinct strings that begins with the specials.
        """
        self.tokens = list(state)
        if tuple(self.tokens[: len(SPECIALS)]) != SPECIALS:
            raise ValueError(f"does not begin with {', '.join(SPECIALS)}")
        if not all(isinstance(token, str) for token in self.tokens):
            raise ValueError("contains a token that is not a string")
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError("contains a token twice")
        # The word "<pad>" in a text must not be taken for padding.
        self._ids[PAD] = UNK_ID

    def state(self) -> list[str]:
        """Return the tokens in the order of their ids."""
        return self.tokens

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        unlabelled: Iterable[str] = (),
        *,
        max_vocab_size: int | None,
        min_freq: int,
    ) -> Self:
        """Keep the tokens that occur `min_freq` times, the most frequent first.

        Those that only unlabelled texts have follow.
        """
        first, second = (cls._count(some, max_vocab_size, min_freq) for some in (texts, unlabelled))
        return first.extended(second, max_vocab_size)

    @classmethod
    def _count(cls, texts: Iterable[str], max_vocab_size: int | None, min_freq: int) -> Self:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cls._tokens(text))
        if (wrong := next((t for t in counts if not isinstance(t, str)), None)) is not None:
            raise ConfigError(
                f"data.tokenizer={cls.name}: tokenize returned {wrong!r} in a list, expected str"
            )
        tokens, numbers = list(counts), list(counts.values())
        return cls(sort_by_frequency(tokens, numbers, min_freq=min_freq, max_tokens=max_vocab_size))

    @classmethod
    def _tokens(cls, text: str) -> list[str]:
        """Return `tokenize(text)`.

        Raises:
            ConfigError: it is no list, as of a plugin; a text would be cut into its letters.
        """
        tokens = cls.tokenize(text)
        if not isinstance(tokens, list | tuple):
            raise ConfigError(
                f"data.tokenizer={cls.name}: tokenize returned {type(tokens).__name__}, expected a "
                "list of str"
            )
        return tokens

    def extended(self, other: Tokenizer, max_vocab_size: int | None = None) -> Self:
        """Return these tokens, with their ids, then those that only `other` lists."""
        if not isinstance(other, VocabularyTokenizer):
            return self
        tokens = list(dict.fromkeys([*self.tokens, *other.tokens]))
        most = len(tokens) if max_vocab_size is None else max(max_vocab_size, len(self))
        return type(self)(tokens[:most])

    def __len__(self) -> int:
        return len(self.tokens)

    def ids(self, tokens: Iterable[str]) -> np.ndarray:
        """Return the id of each token, <unk> for an unknown one: int64 [tokens]."""
        get = self._ids.get
        return np.fromiter((get(token, UNK_ID) for token in tokens), np.int64)

    def encode_all(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Return the ids of each text, int64 [its tokens]."""
        return [self.ids(self._tokens(text)) for text in texts]

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each token of `text` and its id, int64 [1], as in `encode_all`."""
        tokens = self._tokens(text)
        return list(zip(tokens, self.ids(tokens)[:, None], strict=True))

    def token_ids(self) -> dict[str, int]:
        """Return the id of each token, without <pad> and <unk>."""
        return {self.tokens[i]: i for i in range(len(SPECIALS), len(self.tokens))}


@register_tokenizer("basic_english")
class WordTokenizer(VocabularyTokenizer):
    """The words of `basic_english` and their ids."""

    version = BASIC_ENGLISH_VERSION
    unit = "word"
    tokenize = staticmethod(basic_english)
