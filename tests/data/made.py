"""A small corpus for tests that need no particular source."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from rnn_lab.data.corpus import Corpus, Split

PRAISE = "A great film. The best I have seen!<br /><br />Not one dull minute"
BLAME = "It's a dull, dull film; what a waste of two hours"


def make_split(texts: Sequence[str], labels: Sequence[int] | None = None) -> Split:
    labels = np.arange(len(texts)) % 2 if labels is None else np.array(labels)
    return Split(list(texts), labels.astype(np.int64), [f"made:{i}" for i in range(len(texts))])


def make_corpus(
    train: Sequence[str], test: Sequence[str] = (PRAISE, BLAME, ""), **fields: object
) -> Corpus:
    fingerprint = hashlib.sha256(json.dumps([list(train), list(test)]).encode()).hexdigest()
    return Corpus(
        **{
            "name": "files",
            "class_names": ("negative", "positive"),
            "train": make_split(train),
            "validation": None,
            "test": make_split(test),
            "fingerprint": fingerprint,
        }
        | fields
    )


def random_texts(number: int, seed: int = 0) -> list[str]:
    """Texts of 0 to 60 words out of 300, the earlier words more frequent."""
    rng = np.random.default_rng(seed)
    words = np.array([f"word{i}" for i in range(300)])
    return [
        " ".join(words[(300 * rng.random(rng.integers(0, 61)) ** 2).astype(int)])
        for _ in range(number)
    ]


def word_piece(words: Sequence[str]) -> str:
    """The JSON of a tokenizer as BERT has it, with these words and pieces of words."""
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.enable_padding(pad_token="[PAD]", length=30)
    tokenizer.enable_truncation(5)
    return tokenizer.to_str()
