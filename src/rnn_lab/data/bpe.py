"""Texts -> subword ids: byte-pair encoding (Sennrich et al. 2016) by Hugging Face tokenizers."""

import os
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rnn_lab.data.tokenizer_base import WORDS_SIZE, register_tokenizer
from rnn_lab.data.tokenizer_json import (
    WORDS_WITH_MARKS,
    JsonTokenizer,
    checked_pipeline,
    encodable,
)
from rnn_lab.data.vocabulary import SPECIALS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SMALLEST_VOCABULARY = len(SPECIALS) + 256


@register_tokenizer("bpe")
class SubwordTokenizer(JsonTokenizer):
    """Byte-level byte pairs, learned from the training texts.

    It works on bytes, so that no word of any language is unknown. Like `basic_english`, it lowers
    the case and drops `<br />`, so that the two differ only in how they cut words. Combining marks
    stay with their letters: "की" is one word.
    """

    version = 2  # raise it when the pipeline below changes
    smallest_vocabulary = SMALLEST_VOCABULARY
    limits_vocabulary = True

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        unlabelled: Iterable[str] = (),
        *,
        max_vocab_size: int | None,
        min_freq: int,
    ) -> Self:
        """Learn pairs that occur `min_freq` times, up to `max_vocab_size` ids in total."""
        # Set explicitly, or the library warns whenever a data-loading worker is forked later.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        from tokenizers import trainers
        from tokenizers.pre_tokenizers import ByteLevel

        assert max_vocab_size is not None  # see `limits_vocabulary`
        tokenizer = _untrained()
        trainer = trainers.BpeTrainer(
            vocab_size=max_vocab_size,
            min_frequency=min_freq,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(map(encodable, chain(texts, unlabelled)), trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def default_vocab_size(cls, characters: float) -> int:
        """Return data.max_vocab_size=auto for training texts of so many characters in total.

        A learned subword needs examples. Their number grows with the square root of the text, as
        that of distinct words does (Heaps' law): 4,000 for 250,000 characters, 30,000 for 14
        million.
        """
        return int(np.clip(round(8 * characters**0.5, -3), 1_000, WORDS_SIZE))

    @staticmethod
    def _checked(state: Any) -> dict[str, Any]:
        content = checked_pipeline(state)
        vocabulary = content["model"]["vocab"]
        if [token["content"] for token in content["added_tokens"]] != list(SPECIALS):
            raise ValueError(f"has other special tokens than {', '.join(SPECIALS)}")
        if [vocabulary.get(token) for token in SPECIALS] != list(range(len(SPECIALS))):
            raise ValueError(f"does not begin with {', '.join(SPECIALS)}")
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError("does not number its subwords from 0")
        return content


def _untrained() -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace("<br />", " "),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),  # the first word is that word anywhere
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS_WITH_MARKS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer
