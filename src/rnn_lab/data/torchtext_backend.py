"""Words -> ids by torchtext itself, if it is installed: see requirements-torchtext.txt.

`rnn_lab.data.basic_english` and `rnn_lab.data.vocabulary` give the same tokens and ids without it.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rnn_lab.data.vocabulary import PAD_ID, SPECIALS, UNK_ID, WordTokenizer
from rnn_lab.errors import ConfigError

TORCHTEXT_VERSION = 1  # part of every cache key; raise it when the pipeline below changes

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def require_torchtext() -> Any:
    """Return the module `torchtext`.

    Raises:
        ConfigError: it is not installed, or not with the torch that it was built for.
    """
    try:
        import torchtext
    except (ImportError, OSError) as error:  # OSError: its library needs symbols of another torch
        raise ConfigError(
            "data.tokenizer=torchtext: torchtext loads only with torch 2.3, not with torch 2.4 or "
            "later: pip install -r requirements-torchtext.txt in a separate environment. "
            "data.tokenizer=basic_english gives the same tokens and ids"
        ) from error
    torchtext.disable_torchtext_deprecation_warning()
    return torchtext


def torchtext_available() -> bool:
    """Return whether this is the environment of requirements-torchtext.txt."""
    try:
        require_torchtext()
    except ConfigError:
        return False
    return True


class TorchtextTokenizer:
    """torchtext's `basic_english` tokenizer and its `Vocab`."""

    tokenizer = "torchtext"

    def __init__(self, tokens: Sequence[str]) -> None:
        """Take the tokens in the order of their ids.

        Raises:
            ConfigError: torchtext cannot be loaded.
            ValueError: `tokens` is not a list of distinct strings that begins with the specials.
        """
        require_torchtext()
        from torchtext.vocab import vocab

        words = WordTokenizer(tokens).tokens[len(SPECIALS) :]
        self._tokenize = _basic_english()
        self._vocab = vocab(OrderedDict.fromkeys(words, 1), specials=list(SPECIALS))
        self._vocab.set_default_index(UNK_ID)

    @classmethod
    def train(
        cls, texts: Iterable[str], *, max_vocab_size: int | None, min_freq: int
    ) -> "TorchtextTokenizer":
        """Count the words of `texts` and keep the most frequent, specials first.

        Raises:
            ConfigError: torchtext cannot be loaded.
        """
        require_torchtext()
        from torchtext.vocab import build_vocab_from_iterator

        built = build_vocab_from_iterator(
            map(_basic_english(), texts),
            min_freq=min_freq,
            specials=list(SPECIALS),
            max_tokens=max_vocab_size,
        )
        return cls(built.get_itos())

    def __len__(self) -> int:
        return len(self._vocab)

    def encode_all(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Return the ids of each text, int64 [its tokens]."""
        return [self._ids(self._tokenize(text)) for text in texts]

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each word of `text` and its id, int64 [1], as in `encode_all`."""
        tokens = self._tokenize(text)
        return list(zip(tokens, self._ids(tokens)[:, None], strict=True))

    def state(self) -> list[str]:
        """Return the state, in plain types: the same as that of WordTokenizer."""
        tokens: list[str] = self._vocab.get_itos()
        return tokens

    def _ids(self, tokens: list[str]) -> np.ndarray:
        ids = np.array(self._vocab(tokens), dtype=np.int64)  # [tokens]
        ids[ids == PAD_ID] = UNK_ID  # the word "<pad>" in a text is not padding
        return ids


def _basic_english() -> Callable[[str], list[str]]:
    from torchtext.data.utils import get_tokenizer

    tokenize: Callable[[str], list[str]] = get_tokenizer("basic_english")
    # The library of torchtext reads UTF-8, which cannot encode half a surrogate pair.
    return lambda text: tokenize(_LONE_SURROGATE.sub("\ufffd", text))
