"""Texts -> characters or bytes, for texts whose words no space separates, or of any script."""

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any, Self

import numpy as np

from rnn_lab.data.tokenizer_base import Tokenizer, register_tokenizer
from rnn_lab.data.vocabulary import SPECIALS, VocabularyTokenizer

CHARACTERS_SIZE = 10_000  # ids of characters
NUM_BYTES = len(SPECIALS) + 256  # ids of ByteTokenizer

# Zero-width non-joiner and joiner, and the skin colours of emoji.
_JOINERS = frozenset("\u200c\u200d\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_VISIBLE_SPACE = "\N{OPEN BOX}"


def split_characters(text: str) -> list[str]:
    """Split a text into characters, each with the combining marks that follow it.

    Marks are those of Unicode's categories Mn, Mc and Me, among them variation selectors; joiners
    and skin colours stay with the character before them too. This is rule GB9 and most of GB9a of
    UAX #29: "की" is one character of two code points.
    """
    marks = set() if text.isascii() else set(filter(_extends, set(text)))
    if not marks:
        return list(text)
    parts: list[str] = []
    for character in text:
        if character in marks and parts:
            parts[-1] += character
        else:
            parts.append(character)
    return parts


@cache
def _extends(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or character in _JOINERS


def characters(text: str) -> list[str]:
    """Lower the case, drop `<br />`, make one space of several, and split into characters.

    Like `basic_english` and the subwords of `bpe`, so that tokenizers differ only in how they cut.
    """
    return split_characters(" ".join(text.lower().replace("<br />", " ").split()))


@register_tokenizer("char")
class CharacterTokenizer(VocabularyTokenizer):
    """The characters of the training texts, each with its combining marks, and their ids."""

    version = 1  # raise it when `characters` changes
    unit = "character"
    tokenize = staticmethod(characters)

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each character of `text` and its id, int64 [1]; a space is a visible one."""
        return [(visible(character), ids) for character, ids in super().words(text)]

    @classmethod
    def default_vocab_size(cls, characters: float) -> int:
        """Return data.max_vocab_size=auto, for texts of any size."""
        return CHARACTERS_SIZE


@register_tokenizer("byte")
class ByteTokenizer(Tokenizer):
    """The bytes of UTF-8: byte b has the id b + 2. Nothing is learned, and no text is unknown.

    Neither case nor spaces are changed, as in the text task of the Long Range Arena (Tay et al.
    2021).
    """

    version = 1
    unit = "character"
    smallest_vocabulary = NUM_BYTES

    def __init__(self, state: Any = None) -> None:
        """Take the state of another, which is None.

        Raises:
            ValueError: `state` is not None.
        """
        if state is not None:
            raise ValueError("has a state; bytes have none")

    def __len__(self) -> int:
        return NUM_BYTES

    def encode_all(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Return the ids of each text, int64 [its bytes]."""
        return [self._ids(text) for text in texts]

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each character of `text` and the ids of its bytes, as in `encode_all`."""
        return [(visible(part), self._ids(part)) for part in split_characters(text)]

    def state(self) -> None:
        """Return the state for `ByteTokenizer(state)`."""
        return None

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        unlabelled: Iterable[str] = (),
        *,
        max_vocab_size: int | None,
        min_freq: int,
    ) -> Self:
        """Return the bytes; no text is read."""
        return cls()

    @classmethod
    def default_vocab_size(cls, characters: float) -> None:
        """Return data.max_vocab_size=auto: the number of bytes is no choice."""
        return None

    def _ids(self, text: str) -> np.ndarray:
        content = text.encode(errors="replace")  # half a surrogate pair is "?"
        return np.frombuffer(content, np.uint8).astype(np.int64) + len(SPECIALS)


def visible(word: str) -> str:
    """Return `word` as a page can show it: a visible space if it has no other characters."""
    return word if word.strip() else _VISIBLE_SPACE
