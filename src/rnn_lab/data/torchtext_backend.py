"""Words -> ids by torchtext itself, if it is installed: see requirements-torchtext.txt.

`rnn_lab.data.basic_english` and `rnn_lab.data.vocabulary` give the same tokens and ids without it.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Self

import numpy as np

from rnn_lab.data.tokenizer_base import Tokenizer, register_tokenizer
from rnn_lab.data.vocabulary import PAD_ID, SPECIALS, UNK_ID, VocabularyTokenizer, WordTokenizer
from rnn_lab.errors import ConfigError

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


@register_tokenizer("torchtext")
class TorchtextTokenizer(VocabularyTokenizer):
    """torchtext's `basic_english` tokenizer and its `Vocab`."""

    version = 1  # raise it when the pipeline below changes
    unit = "word"
    same_ids_as = WordTokenizer.name

    def __init__(self, state: Sequence[str]) -> None:
        """Take the tokens in the order of their ids.

        Raises:
            ConfigError: torchtext cannot be loaded.
            ValueError: `state` is not a list of distinct strings that begins with the specials.
        """
        require_torchtext()
        from torchtext.vocab import vocab

        super().__init__(state)
        words = OrderedDict.fromkeys(self.tokens[len(SPECIALS) :], 1)
        self._vocab = vocab(words, specials=list(SPECIALS))
        self._vocab.set_default_index(UNK_ID)

    @classmethod
    def _count(cls, texts: Iterable[str], max_vocab_size: int | None, min_freq: int) -> Self:
        require_torchtext()
        from torchtext.vocab import build_vocab_from_iterator

        built = build_vocab_from_iterator(
            map(cls.tokenize, texts),
            min_freq=min_freq,
            specials=list(SPECIALS),
            max_tokens=max_vocab_size,
        )
        return cls(built.get_itos())

    @staticmethod
    def tokenize(text: str) -> list[str]:
        """Return the words of `text`.

        Raises:
            ConfigError: torchtext cannot be loaded.
        """
        # The library of torchtext reads UTF-8, which cannot encode half a surrogate pair.
        return _basic_english()(_LONE_SURROGATE.sub("\ufffd", text))

    def ids(self, tokens: Iterable[str]) -> np.ndarray:
        """Return the id of each token, <unk> for an unknown one: int64 [tokens]."""
        ids = np.array(self._vocab(list(tokens)), dtype=np.int64)
        ids[ids == PAD_ID] = UNK_ID  # the word "<pad>" in a text is not padding
        return ids

    @classmethod
    def check_usable(cls, option: str) -> None:
        """Make sure that torchtext can be loaded.

        Raises:
            ConfigError: it cannot.
        """
        require_torchtext()

    @classmethod
    def from_state(cls, state: Any) -> Tokenizer:
        """Return a tokenizer of these words; without torchtext, one with the same ids."""
        return cls(state) if torchtext_available() else WordTokenizer(state)


@cache
def _basic_english() -> Callable[[str], list[str]]:
    require_torchtext()
    from torchtext.data.utils import get_tokenizer

    tokenize: Callable[[str], list[str]] = get_tokenizer("basic_english")
    return tokenize
