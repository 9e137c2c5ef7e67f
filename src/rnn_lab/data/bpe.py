"""Texts -> subword ids: byte-pair encoding (Sennrich et al. 2016) by Hugging Face tokenizers."""

import json
import os
from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.data.vocabulary import PAD_ID, SPECIALS, UNK_ID

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BPE_VERSION = 1  # part of every cache key; raise it when the pipeline below changes
SMALLEST_VOCABULARY = len(SPECIALS) + 256


class SubwordVocabulary:
    """Byte-level byte pairs, learned from the training texts.

    It works on bytes, so that no word of any language is unknown. Like `basic_english`, it lowers
    the case and drops `<br />`, so that the two differ only in how they cut words.
    """

    tokenizer = "bpe"

    def __init__(self, state: str) -> None:
        """Take the JSON of a tokenizer. Reading it runs no code.

        Raises:
            ValueError: `state` is not the JSON of a tokenizer of `train`.
        """
        from tokenizers import Tokenizer

        if not isinstance(state, str):
            raise ValueError("is not a string")
        try:
            _check(json.loads(state))
            self._tokenizer = Tokenizer.from_str(state)
        except Exception as error:  # the library raises bare Exceptions
            raise ValueError(f"is not a tokenizer: {error or type(error).__name__}") from error
        if [self._tokenizer.id_to_token(i) for i in (PAD_ID, UNK_ID)] != list(SPECIALS):
            raise ValueError(f"does not begin with {', '.join(SPECIALS)}")
        # The word "<pad>" in a text must not be taken for padding.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @classmethod
    def train(
        cls, texts: Iterable[str], *, max_vocab_size: int, min_freq: int
    ) -> "SubwordVocabulary":
        """Learn pairs that occur `min_freq` times, up to `max_vocab_size` ids in total."""
        # Set explicitly, or the library warns whenever a data-loading worker is forked later.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        from tokenizers import trainers
        from tokenizers.pre_tokenizers import ByteLevel

        tokenizer = _untrained()
        trainer = trainers.BpeTrainer(
            vocab_size=max_vocab_size,
            min_frequency=min_freq,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(map(_encodable, texts), trainer)
        return cls(tokenizer.to_str())

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode_all(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Return the ids of each text, int64 [its subwords]."""
        encodings = self._tokenizer.encode_batch_fast([_encodable(text) for text in texts])
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each word of `text` and the ids of its subwords, as in `encode_all`."""
        from tokenizers.decoders import ByteLevel

        encoding = self._tokenizer.encode(_encodable(text))
        words = []
        for _, group in groupby(range(len(encoding.ids)), encoding.word_ids.__getitem__):
            positions = list(group)
            letters = ByteLevel().decode([encoding.tokens[i] for i in positions])
            words.append((letters.strip(), np.array([encoding.ids[i] for i in positions])))
        return words

    def state(self) -> str:
        """Return the state for `SubwordVocabulary(state)`, in plain types."""
        return self._tokenizer.to_str()


def _check(state: Any) -> None:
    """Raise an error unless `state` has the pipeline of `train`; its pairs may differ.

    The normalizer of an untrusted file could expand a word to gigabytes or never return.
    """
    ours = json.loads(_untrained().to_str())
    for part in ours:
        if part not in {"model", "added_tokens"} and state[part] != ours[part]:
            raise ValueError(f"has another {part}")
    learned = {"vocab", "merges"}
    if any(state["model"][part] != ours["model"][part] for part in ours["model"].keys() - learned):
        raise ValueError("has another model")
    if [token["content"] for token in state["added_tokens"]] != list(SPECIALS):
        raise ValueError(f"has other special tokens than {', '.join(SPECIALS)}")
    if sorted(state["model"]["vocab"].values()) != list(range(len(state["model"]["vocab"]))):
        raise ValueError("does not number its subwords from 0")


def _untrained() -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace("<br />", " "),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def _encodable(text: str) -> str:
    """Replace half a surrogate pair, which JSON can spell and UTF-8 cannot, by "?"."""
    return text.encode(errors="replace").decode()
