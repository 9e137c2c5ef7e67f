"""Any text -> the ids that a model was trained on. Checkpoints contain it."""

import hashlib
import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from rnn_lab.data.bpe import SubwordTokenizer
from rnn_lab.data.characters import ByteTokenizer, CharacterTokenizer
from rnn_lab.data.tokenizer_json import JsonTokenizer
from rnn_lab.data.torchtext_backend import TorchtextTokenizer, torchtext_available
from rnn_lab.data.vocabulary import SPECIALS, UNK, UNK_ID, WordTokenizer
from rnn_lab.errors import CheckpointError

Vocabulary = (
    WordTokenizer
    | TorchtextTokenizer
    | CharacterTokenizer
    | ByteTokenizer
    | SubwordTokenizer
    | JsonTokenizer
)
_VOCABULARIES: dict[str, type[Vocabulary]] = {kind.tokenizer: kind for kind in get_args(Vocabulary)}


def vocabulary_from_state(tokenizer: str, state: Any) -> Vocabulary:
    """Return the vocabulary of that tokenizer.

    A vocabulary of torchtext can be read without torchtext: `WordTokenizer` gives the same ids.

    Raises:
        ValueError: there is no such tokenizer, or `state` is not a vocabulary of it.
    """
    if not isinstance(tokenizer, str) or tokenizer not in _VOCABULARIES:
        raise ValueError(
            f"tokenizer is {reprlib.repr(tokenizer)}, not one of {', '.join(_VOCABULARIES)}"
        )
    kind = _VOCABULARIES[tokenizer]
    if kind is TorchtextTokenizer and not torchtext_available():
        kind = WordTokenizer
    try:
        return kind(state)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{tokenizer} vocabulary {error}") from error


def token_ids(vocabulary: Vocabulary) -> dict[str, int]:
    """Return the id of each token, without <pad> and <unk>; bytes have no tokens."""
    if isinstance(vocabulary, ByteTokenizer):
        return {}
    if isinstance(vocabulary, JsonTokenizer):
        return vocabulary.token_ids()
    tokens = vocabulary.state()
    return {tokens[i]: i for i in range(len(SPECIALS), len(tokens))}


def extend_vocabulary(
    first: Vocabulary, second: Vocabulary, max_tokens: int | None = None
) -> Vocabulary:
    """Return the tokens of `first`, with their ids, then those that only `second` has.

    There are at most `max_tokens`, unless `first` has more. Bytes, learned subwords and those of a
    tokenizer.json are complete: they stay as they are.
    """
    listed = WordTokenizer | TorchtextTokenizer | CharacterTokenizer
    if not isinstance(first, listed) or not isinstance(second, listed):
        return first
    tokens = list(dict.fromkeys([*first.state(), *second.state()]))
    most = len(tokens) if max_tokens is None else max(max_tokens, len(first))
    return type(first)(tokens[:most])


def vocabulary_fingerprint(vocabulary: Vocabulary) -> str:
    """Return a sha256 (hex) of the mapping from token to id, equal with and without torchtext."""
    kind = WordTokenizer if isinstance(vocabulary, TorchtextTokenizer) else vocabulary
    content = json.dumps([kind.tokenizer, vocabulary.state()])
    return hashlib.sha256(content.encode()).hexdigest()


def head_length(max_length: int, truncation_side: str) -> int:
    """Return how many of the `max_length` tokens that are kept are from the start of a long text.

    The others are from its end. With "middle", a third is from the start: the head and tail of
    Sun et al. (2019, "How to Fine-Tune BERT for Text Classification?", section 5.3.1), who take a
    quarter.
    """
    return {"left": 0, "middle": max_length // 3, "right": max_length}[truncation_side]


@dataclass(frozen=True)
class TextEncoder:
    """A vocabulary and the truncation of long texts."""

    vocabulary: Vocabulary
    max_length: int  # tokens kept of each text
    truncation_side: Literal["left", "middle", "right"]  # what is cut off a longer text

    @property
    def vocab_size(self) -> int:
        """Number of ids, including <pad> and <unk>."""
        return len(self.vocabulary)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of tokenizer and vocabulary."""
        return vocabulary_fingerprint(self.vocabulary)

    def kept(self, length: int) -> np.ndarray:
        """Return the positions that are kept of a text of `length` tokens, int64, ascending."""
        positions = np.arange(length)
        if length <= self.max_length:
            return positions
        head = head_length(self.max_length, self.truncation_side)
        tail = self.max_length - head
        return np.concatenate([positions[:head], positions[length - tail :]])

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of one text, int64 [1 <= length <= max_length]."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Return the ids of each text. A text without tokens is one <unk>."""
        unknown = np.array([UNK_ID])
        encoded = (ids if len(ids) else unknown for ids in self.vocabulary.encode_all(texts))
        return [ids[self.kept(len(ids))] if len(ids) > self.max_length else ids for ids in encoded]

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each word of one text and its ids, int64 [1 or more], without truncation.

        Of their ids, concatenated, those at the positions `kept` are those of `encode`.
        """
        return self.vocabulary.words(text) or [(UNK, np.array([UNK_ID]))]

    def state_dict(self) -> dict[str, Any]:
        """Return the state in plain types, for `from_state_dict`."""
        return {
            "tokenizer": self.vocabulary.tokenizer,
            "vocabulary": self.vocabulary.state(),
            "max_length": self.max_length,
            "truncation_side": self.truncation_side,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "TextEncoder":
        """Build an encoder from the state in an untrusted checkpoint.

        Raises:
            CheckpointError: `state` is not the result of `state_dict`.
        """
        fields = {"tokenizer", "vocabulary", "max_length", "truncation_side"}
        if not isinstance(state, Mapping) or set(state) != fields:
            raise CheckpointError(f"text encoder: expected the fields {', '.join(sorted(fields))}")
        max_length, side = state["max_length"], state["truncation_side"]
        if type(max_length) is not int or max_length < 1:
            raise CheckpointError(f"text encoder: max_length is {reprlib.repr(max_length)}")
        if side not in ("left", "middle", "right"):
            raise CheckpointError(f"text encoder: truncation_side is {reprlib.repr(side)}")
        try:
            vocabulary = vocabulary_from_state(state["tokenizer"], state["vocabulary"])
        except ValueError as error:
            raise CheckpointError(f"text encoder: {error}") from error
        return cls(vocabulary, max_length, side)
