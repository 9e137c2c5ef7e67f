"""Any text -> the ids that a model was trained on. Checkpoints contain it."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rnn_lab.data.tokenizer_base import TOKENIZERS, Tokenizer, encode_texts, words_of_text
from rnn_lab.data.vocabulary import UNK, UNK_ID
from rnn_lab.errors import CheckpointError, sanitize


def tokenizer_from_state(name: str, state: Any) -> Tokenizer:
    """Return the tokenizer of that name, one of this package or of a loaded plugin.

    Raises:
        ValueError: there is no such tokenizer, or `state` is not one of its states.
    """
    if not isinstance(name, str) or name not in TOKENIZERS:
        raise ValueError(
            f"tokenizer is {reprlib.repr(name)}, not one of {', '.join(TOKENIZERS)}; if a plugin "
            "defines it, load that: plugins=[<module>]"
        )
    kind: type[Tokenizer] = TOKENIZERS[name]
    try:
        tokenizer = kind.from_state(state)
        len(tokenizer)  # an impossible one raises
        return tokenizer
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} vocabulary {error}") from error
    except (LookupError, AttributeError, ArithmeticError) as error:  # of a plugin, unchecked
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name} vocabulary is damaged: {sanitize(reason)}") from error


def head_length(max_length: int, truncation_side: str) -> int:
    """Return how many of the `max_length` tokens that are kept are from the start of a long text.

    The others are from its end. With "middle", a third is from the start: the head and tail of
    Sun et al. (2019, "How to Fine-Tune BERT for Text Classification?", section 5.3.1), who take a
    quarter.
    """
    return {"left": 0, "middle": max_length // 3, "right": max_length}[truncation_side]


@dataclass(frozen=True)
class TextEncoder:
    """A trained tokenizer and the truncation of long texts."""

    vocabulary: Tokenizer
    max_length: int  # tokens kept of each text
    truncation_side: Literal["left", "middle", "right"]  # what is cut off a longer text

    @property
    def vocab_size(self) -> int:
        """Number of ids, including <pad> and <unk>."""
        return len(self.vocabulary)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of tokenizer and vocabulary."""
        return self.vocabulary.fingerprint

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
        found = encode_texts(self.vocabulary, list(texts))
        encoded = (ids if len(ids) else unknown for ids in found)
        return [ids[self.kept(len(ids))] if len(ids) > self.max_length else ids for ids in encoded]

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each word of one text and its ids, int64 [1 or more], without truncation.

        Of their ids, concatenated, those at the positions `kept` are those of `encode`.

        Raises:
            ConfigError: they are not, as of a plugin.
        """
        return words_of_text(self.vocabulary, text) or [(UNK, np.array([UNK_ID]))]

    def state_dict(self) -> dict[str, Any]:
        """Return the state in plain types, for `from_state_dict`."""
        version = self.vocabulary.plugin_version()
        return {
            "tokenizer": self.vocabulary.name,
            "vocabulary": self.vocabulary.state(),
            "max_length": self.max_length,
            "truncation_side": self.truncation_side,
        } | ({} if version is None else {"tokenizer_version": version})

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "TextEncoder":
        """Build an encoder from the state in an untrusted checkpoint.

        Raises:
            CheckpointError: `state` is not the result of `state_dict`.
        """
        fields = {"tokenizer", "vocabulary", "max_length", "truncation_side"}
        if not isinstance(state, Mapping) or set(state) - {"tokenizer_version"} != fields:
            raise CheckpointError(f"text encoder: expected the fields {', '.join(sorted(fields))}")
        max_length, side = state["max_length"], state["truncation_side"]
        if type(max_length) is not int or max_length < 1:
            raise CheckpointError(f"text encoder: max_length is {reprlib.repr(max_length)}")
        if side not in ("left", "middle", "right"):
            raise CheckpointError(f"text encoder: truncation_side is {reprlib.repr(side)}")
        try:
            vocabulary = tokenizer_from_state(state["tokenizer"], state["vocabulary"])
        except ValueError as error:
            raise CheckpointError(f"text encoder: {error}") from error
        saved, version = state.get("tokenizer_version"), vocabulary.plugin_version()
        if saved != version:
            raise CheckpointError(
                f"text encoder: of version {reprlib.repr(saved)} of the tokenizer "
                f"{vocabulary.name}, now version {version}; load the plugin of that version"
            )
        return cls(vocabulary, max_length, side)
