"""Any text -> the ids a model was trained on. Travels inside the checkpoint."""

import hashlib
import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rnn_lab.data.bpe import SubwordVocabulary
from rnn_lab.data.torchtext_backend import TorchtextVocabulary, torchtext_available
from rnn_lab.data.vocabulary import UNK, UNK_ID, WordVocabulary
from rnn_lab.errors import CheckpointError

Vocabulary = WordVocabulary | TorchtextVocabulary | SubwordVocabulary
_VOCABULARIES: dict[str, type[Vocabulary]] = {
    kind.tokenizer: kind for kind in (WordVocabulary, TorchtextVocabulary, SubwordVocabulary)
}


def vocabulary_from_state(tokenizer: str, state: Any) -> Vocabulary:
    """The vocabulary of that kind.

    What torchtext gave ids to is read everywhere: where there is no torchtext, `WordVocabulary`
    gives the same.

    Raises:
        ValueError: there is no such tokenizer, or `state` is not a vocabulary of it.
    """
    if not isinstance(tokenizer, str) or tokenizer not in _VOCABULARIES:
        raise ValueError(
            f"tokenizer is {reprlib.repr(tokenizer)}, not one of {', '.join(_VOCABULARIES)}"
        )
    kind = _VOCABULARIES[tokenizer]
    if kind is TorchtextVocabulary and not torchtext_available():
        kind = WordVocabulary
    try:
        return kind(state)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{tokenizer} vocabulary {error}") from error


def vocabulary_fingerprint(vocabulary: Vocabulary) -> str:
    """sha256 (hex) of what gives a token its id: the same with torchtext and without."""
    kind = WordVocabulary if isinstance(vocabulary, TorchtextVocabulary) else vocabulary
    content = json.dumps([kind.tokenizer, vocabulary.state()])
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class TextEncoder:
    """A vocabulary, and how long a text may be."""

    vocabulary: Vocabulary
    max_length: int  # tokens kept of a text
    truncation_side: Literal["left", "right"]  # which end of a longer text is cut

    @property
    def vocab_size(self) -> int:
        """Number of ids, <pad> and <unk> among them."""
        return len(self.vocabulary)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of tokenizer and vocabulary."""
        return vocabulary_fingerprint(self.vocabulary)

    @property
    def kept(self) -> slice:
        """The tokens of a text that are read."""
        right = self.truncation_side == "right"
        return slice(self.max_length) if right else slice(-self.max_length, None)

    def encode(self, text: str) -> np.ndarray:
        """The ids of one text, int64 [1 <= length <= max_length]."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Iterable[str]) -> list[np.ndarray]:
        """The ids of each text. A text without a token is one <unk>."""
        kept, unknown = self.kept, np.array([UNK_ID])
        return [ids[kept] if len(ids) else unknown for ids in self.vocabulary.encode_all(texts)]

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Each word of one text, as it is read, and its ids int64 [1 or more], before any cut.

        Their ids, one after the other and cut to `kept`, are those of `encode`.
        """
        return self.vocabulary.words(text) or [(UNK, np.array([UNK_ID]))]

    def state_dict(self) -> dict[str, Any]:
        """Plain strings, numbers and lists; `from_state_dict` reads them back."""
        return {
            "tokenizer": self.vocabulary.tokenizer,
            "vocabulary": self.vocabulary.state(),
            "max_length": self.max_length,
            "truncation_side": self.truncation_side,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "TextEncoder":
        """Rebuild an encoder from a checkpoint, trusting nothing in it.

        Raises:
            CheckpointError: `state` is not what `state_dict` gives.
        """
        fields = {"tokenizer", "vocabulary", "max_length", "truncation_side"}
        if not isinstance(state, Mapping) or set(state) != fields:
            raise CheckpointError(f"text encoder: expected the fields {', '.join(sorted(fields))}")
        max_length, side = state["max_length"], state["truncation_side"]
        if type(max_length) is not int or max_length < 1:
            raise CheckpointError(f"text encoder: max_length is {reprlib.repr(max_length)}")
        if side not in ("left", "right"):
            raise CheckpointError(f"text encoder: truncation_side is {reprlib.repr(side)}")
        try:
            vocabulary = vocabulary_from_state(state["tokenizer"], state["vocabulary"])
        except ValueError as error:
            raise CheckpointError(f"text encoder: {error}") from error
        return cls(vocabulary, max_length, side)
