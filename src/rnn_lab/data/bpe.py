"""Texts -> subword ids: byte-pair encoding (Sennrich et al. 2016) by Hugging Face tokenizers."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rnn_lab.data.tokenizer_json import (
    WORDS_WITH_MARKS,
    JsonTokenizer,
    checked_pipeline,
    encodable,
)
from rnn_lab.data.vocabulary import SPECIALS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BPE_VERSION = 2  # part of every cache key; raise it when the pipeline below changes
SMALLEST_VOCABULARY = len(SPECIALS) + 256


class SubwordTokenizer(JsonTokenizer):
    """Byte-level byte pairs, learned from the training texts.

    It works on bytes, so that no word of any language is unknown. Like `basic_english`, it lowers
    the case and drops `<br />`, so that the two differ only in how they cut words. Combining marks
    stay with their letters: "की" is one word.
    """

    tokenizer = "bpe"

    @classmethod
    def train(
        cls, texts: Iterable[str], *, max_vocab_size: int, min_freq: int
    ) -> "SubwordTokenizer":
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
        tokenizer.train_from_iterator(map(encodable, texts), trainer)
        return cls(tokenizer.to_str())

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
