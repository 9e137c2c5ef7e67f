"""The results of torchtext, or of its rules in plain Python if it is not installed."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from sys import intern

from rnn_lab.data.corpus import Corpus
from rnn_lab.data.torchtext_backend import TorchtextTokenizer, require_torchtext
from rnn_lab.data.vocabulary import WordTokenizer

# Not whether it loads: an installed torchtext that does not load must fail the tests.
INSTALLED = find_spec("torchtext") is not None
TOKENIZERS = ("basic_english", *(["torchtext"] if INSTALLED else []), "bpe")
ALL_TOKENIZERS = (*TOKENIZERS, "char", "byte")
WORD_VOCABULARIES = (WordTokenizer, *([TorchtextTokenizer] if INSTALLED else []))

# The replacements of torchtext 0.18's basic_english, in its order.
BASIC_ENGLISH = [
    (r"\'", " '  "),
    (r"\"", ""),
    (r"\.", " . "),
    (r"<br \/>", " "),
    (r",", " , "),
    (r"\(", " ( "),
    (r"\)", " ) "),
    (r"\!", " ! "),
    (r"\?", " ? "),
    (r"\;", " "),
    (r"\:", " "),
    (r"\s+", " "),
]


def basic_english_of_torchtext(text: str) -> list[str]:
    """get_tokenizer("basic_english")(text)."""
    if INSTALLED:
        require_torchtext()
        from torchtext.data.utils import get_tokenizer

        return get_tokenizer("basic_english")(text)
    text = text.lower()
    for pattern, replacement in BASIC_ENGLISH:
        text = re.sub(pattern, replacement, text)
    return text.split()


def order_of_torchtext(
    texts: Iterable[Sequence[str]],
    specials: Sequence[str] = ("<pad>", "<unk>"),
    min_freq: int = 1,
    max_tokens: int | None = None,
) -> list[str]:
    """build_vocab_from_iterator(texts, ...).get_itos(), the specials first."""
    if INSTALLED:
        return _build(texts, specials, min_freq, max_tokens).get_itos()
    counts = Counter(token for text in texts for token in text)
    by_frequency = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if max_tokens is not None:
        by_frequency = by_frequency[: max_tokens - len(specials)]
    kept = [token for token, n in by_frequency if n >= min_freq and token not in specials]
    return [*specials, *kept]


def answers_on_imdb(imdb: Corpus) -> dict:
    """Compute the contents of the recorded results for IMDB with the installed torchtext."""
    train, test = (
        [list(map(intern, basic_english_of_torchtext(text))) for text in split.texts]
        for split in (imdb.train, imdb.test)
    )
    vocabulary = _build(train, ["<unk>"], 1, None)
    vocabulary.set_default_index(0)
    splits = {"train": train, "test": test}
    ids = {
        f"sha256_of_{name}_ids": _sha256(map(str, vocabulary(tokens)) for tokens in splits[name])
        for name in splits
    }
    answers: dict = {
        "vocabulary_specials_unk": _described(vocabulary.get_itos()) | ids,
        "vocabulary_pad_unk_min_freq_5": _described(order_of_torchtext(train, min_freq=5)),
        "vocabulary_pad_unk_max_tokens_30000": _described(
            order_of_torchtext(train, max_tokens=30_000)
        ),
    }
    for name, split in splits.items():
        answers[f"{name}_reviews"] = len(split)
        answers[f"{name}_tokens"] = sum(map(len, split))
        answers[f"sha256_of_{name}_tokens"] = _sha256(split)
    return answers


def _build(texts, specials, min_freq, max_tokens):
    require_torchtext()
    from torchtext.vocab import build_vocab_from_iterator

    return build_vocab_from_iterator(
        texts, min_freq=min_freq, specials=list(specials), max_tokens=max_tokens
    )


def _described(order: list[str]) -> dict:
    digest = hashlib.sha256("\n".join(order).encode()).hexdigest()
    return {"size": len(order), "sha256_of_itos": digest}


def _sha256(reviews: Iterable[Iterable[str]]) -> str:
    """Hash the tokens or ids of every text, joined by spaces and ended by a newline."""
    digest = hashlib.sha256()
    for review in reviews:
        digest.update((" ".join(review) + "\n").encode())
    return digest.hexdigest()
