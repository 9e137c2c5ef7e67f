"""Texts -> ids by a tokenizer.json of Hugging Face tokenizers, which may come from anyone.

Reading such a file runs no code, but its pipeline runs on every text. A normalizer could expand a
word to gigabytes, and a regular expression could take years for a line. So only components and
parameters are accepted that make a text longer by a bounded factor and need time that is about
proportional to its length.
"""

import json
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Self

import numpy as np

from rnn_lab.data.characters import visible
from rnn_lab.data.tokenizer_base import FROM_FILE, Tokenizer, names_file, register_tokenizer
from rnn_lab.data.vocabulary import PAD, SPECIALS, UNK, UNK_ID
from rnn_lab.errors import ConfigError, sanitize, whole_message
from rnn_lab.paths import local_path

_PADS = (PAD, "[PAD]", "<PAD>", "<|pad|>")
# Encoded when a tokenizer is read: the parts of some make the library fail at the first text.
_PROBES = ("", " ", "a", "Ab 1, <pad>\n\u4e2d\u0915\u0940\U0001f3ac")
_MAX_BYTES = 2**28  # of a file; the largest known ones have some 2**25
_MAX_ID = 2**22
_MAX_PARTS = 16  # of a pipeline
_MAX_AFFIX = 16  # characters that are put before or after a word
_MAX_TOKEN = 1_024  # characters

_NORMALIZERS = {
    *("BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt"),
    *("Prepend", "Replace", "Strip", "StripAccents"),
}
_PRE_TOKENIZERS = {
    *("BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace"),
    *("Punctuation", "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit"),
}
_END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SYMBOLS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
_HEAD, _TAIL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# Letters with their marks and joiners, numbers and symbols with theirs, each after one space. This
# is GPT-2's expression, which separates the vowel signs of Hindi and Thai from their letters, with
# \p{M}; texts without marks are cut as by GPT-2's.
WORDS_WITH_MARKS = (
    r"'(?:s|t|re|ve|m|ll|d)| ?[\p{L}\p{M}][\p{L}\p{M}\x{200C}\x{200D}]*| ?\p{N}[\p{N}\p{M}]*"
    r"| ?[^\s\p{L}\p{M}\p{N}][^\s\p{L}\p{N}]*|\s+(?!\S)|\s+"
)
# An expression of a file can take time that is exponential in a text's length: none but these.
_EXPRESSIONS = {
    WORDS_WITH_MARKS,
    *(r"\s+", r"\s", " +", " {2,}", r"\d", r"\d+", r"\p{N}", r"\p{N}+", r"\w+|[^\w\s]+"),
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
    rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_SYMBOLS}{_END}",  # GPT-4, Llama 3
    rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_SYMBOLS}{_END}",  # Qwen 2
    rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_END}",  # Qwen 3.5
    rf"[^\r\n\p{{L}}\p{{N}}]?{_HEAD}*{_TAIL}+{_SHORT}?|[^\r\n\p{{L}}\p{{N}}]?{_HEAD}+{_TAIL}*"
    rf"{_SHORT}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_END}",  # GPT-4o
}


@register_tokenizer(FROM_FILE)
class JsonTokenizer(Tokenizer):
    """The pipeline and vocabulary of a tokenizer.json, with the ids of this project.

    Id 0 is padding and 1 every unknown token; the others are the file's tokens in its order. What
    the file adds for other networks is left out: templates ([CLS] ... [SEP]), padding, truncation.
    """

    version = 1  # raise it when the ids below change
    unit = "subword"

    def __init__(self, state: str) -> None:
        """Take the JSON of a tokenizer.

        Raises:
            ValueError: `state` is not the JSON of a tokenizer, or has a component that could make
                texts grow or never end. The message names it in one line.
        """
        from tokenizers import Tokenizer

        if not isinstance(state, str):
            raise ValueError("is not a string")
        try:
            content = self._checked(json.loads(state))
            # Not `state`: where a key occurs twice, the library may read the one not checked.
            self._tokenizer = Tokenizer.from_str(json.dumps(content))
            self._tokenizer.encode_batch_fast(list(_PROBES))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare Exceptions, and its panics none
            reason = sanitize(whole_message(error))
            raise ValueError(f"is not a tokenizer: {reason}") from error
        # The word "<pad>" in a text must not be taken for padding.
        self._tokenizer.encode_special_tokens = True
        self._decodes_bytes = _is_bytes(content)
        self._has_words = content["pre_tokenizer"] is not None
        self._new_ids = _number(self._tokenizer.get_vocab(), _special_tokens(content))

    @staticmethod
    def _checked(state: Any) -> dict[str, Any]:
        """Return the parts of `state` that are used, or raise an error."""
        return checked_pipeline(state)

    def __len__(self) -> int:
        return int(self._new_ids.max(initial=UNK_ID)) + 1

    def encode_all(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Return the ids of each text, int64 [its tokens]."""
        encodings = self._tokenizer.encode_batch_fast(
            [encodable(text) for text in texts], add_special_tokens=False
        )
        return [self._ids(encoding.ids) for encoding in encodings]

    def words(self, text: str) -> list[tuple[str, np.ndarray]]:
        """Return each word of `text` and the ids of its tokens, as in `encode_all`.

        Where the pipeline does not cut texts into words, each token is one.
        """
        from tokenizers.decoders import ByteLevel

        text = encodable(text)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        # Each access of an attribute makes the whole list.
        ids, tokens, spans = encoding.ids, encoding.tokens, encoding.offsets
        word_of = encoding.word_ids if self._has_words else range(len(ids))
        words = []
        for _, group in groupby(range(len(ids)), word_of.__getitem__):
            positions = list(group)
            first, end = positions[0], positions[-1] + 1
            if self._decodes_bytes:
                letters = ByteLevel().decode(tokens[first:end])
            else:
                letters = text[spans[first][0] : spans[end - 1][1]]
            words.append((visible(letters.strip()), self._ids(ids[first:end])))
        return words

    def token_ids(self) -> dict[str, int]:
        """Return the id of each token, in the file's spelling, without padding and unknown ones."""
        ids = {token: int(self._new_ids[i]) for token, i in self._tokenizer.get_vocab().items()}
        return {token: i for token, i in ids.items() if i != UNK_ID}

    def _ids(self, of_file: list[int]) -> np.ndarray:
        return self._new_ids[np.array(of_file, dtype=np.int64)]

    def state(self) -> str:
        """Return the JSON of the parts that are used."""
        return self._tokenizer.to_str()

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        unlabelled: Iterable[str] = (),
        *,
        max_vocab_size: int | None,
        min_freq: int,
    ) -> Self:
        """Raise a NotImplementedError: `read_tokenizer_json` reads what others have trained."""
        raise NotImplementedError

    @classmethod
    def default_vocab_size(cls, characters: float) -> int | None:
        """Return data.max_vocab_size=auto: a file has its own size."""
        return None

    @classmethod
    def check_usable(cls, option: str) -> None:
        """Make sure that the file, if `option` names one, can be read.

        Raises:
            ConfigError: see `read_tokenizer_json`.
        """
        if names_file(option):
            read_tokenizer_json(option)


def read_tokenizer_json(path: str) -> JsonTokenizer:
    """Read the file that data.tokenizer=<path> names.

    Raises:
        ConfigError: it cannot be read or used; the message has the reason in one line.
    """
    place = local_path(path)
    try:
        if not stat.S_ISREG(place.stat().st_mode) or place.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"data.tokenizer={path}: is not a tokenizer.json")
        return JsonTokenizer(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"data.tokenizer={path}: {os.strerror(error.errno or 0)}") from None
    except ValueError as error:
        raise ConfigError(f"data.tokenizer={path}: {error}") from error


def checked_pipeline(state: Any) -> dict[str, Any]:
    """Return the parts of the content of a tokenizer.json that encode texts.

    Raises:
        ValueError: a component is not among those that are safe with any text.
        KeyError, TypeError: `state` is not the content of a tokenizer.json.
    """
    before, cut = state["normalizer"], state["pre_tokenizer"]
    _check_parts("normalizer", before, _NORMALIZERS, inner="normalizers")
    _check_parts("pre_tokenizer", cut, _PRE_TOKENIZERS, inner="pretokenizers")
    _check_model(state["model"])
    for token in state["added_tokens"]:
        _check_token(token["content"])
        if token["id"] > _MAX_ID:
            raise ValueError(f"numbers a token {token['id']}; at most {_MAX_ID} are possible")
    unused = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    used = {name: state[name] for name in ("added_tokens", "normalizer", "pre_tokenizer", "model")}
    return {"version": "1.0", **unused, **used}


def _check_parts(place: str, component: Any, known: set[str], *, inner: str) -> None:
    parts = list(_parts(component, inner))
    if len(parts) > _MAX_PARTS:
        raise ValueError(f"{place} has {len(parts)} parts; at most {_MAX_PARTS} are possible")
    kinds = [part["type"] for part in parts]
    for kind, part in zip(kinds, parts, strict=True):
        if kind not in known:
            raise ValueError(f"{place} {kind} is not supported")
        if kind == "Prepend" and not 0 < len(part["prepend"]) <= _MAX_AFFIX:
            raise ValueError(f"{place} Prepend needs 1 to {_MAX_AFFIX} characters")
        if kind in ("Replace", "Split"):
            _check_pattern(f"{place} {kind}", part["pattern"], part.get("content", ""))
    if kinds.count("ByteLevel") > 1:  # each makes several characters of one
        raise ValueError(f"{place} has ByteLevel twice")


def _parts(component: Any, inner: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    if component is None:
        return
    if component["type"] != "Sequence":
        yield component
    elif depth > _MAX_PARTS:
        raise ValueError("has sequences within sequences")
    else:
        for part in component[inner]:
            yield from _parts(part, inner, depth + 1)


def _check_pattern(place: str, pattern: Any, content: str) -> None:
    (kind, text), *rest = pattern.items()
    if rest or kind not in ("String", "Regex") or not isinstance(text, str) or not text:
        raise ValueError(f"{place} has the pattern {pattern}")
    if kind == "Regex" and text not in _EXPRESSIONS:
        raise ValueError(f"{place} has an unknown regular expression, {text}")
    if len(content) > (len(text) if kind == "String" else 1):
        raise ValueError(f"{place} makes texts longer")
    # Otherwise the next normalizer could make several characters of one, and so on.
    if unicodedata.normalize("NFKD", content.lower()) != content:
        raise ValueError(f"{place} inserts {content}")


def _check_model(model: Any) -> None:
    kind, vocabulary = model["type"], model["vocab"]
    unknown = model.get("unk_token")
    if kind == "Unigram":
        tokens = [token for token, _ in vocabulary]
        if model["unk_id"] is None:
            raise ValueError("model Unigram has no unk_id")
    elif kind in ("BPE", "WordLevel", "WordPiece"):
        tokens = list(vocabulary)
        if unknown not in (vocabulary if kind != "BPE" else {None, *vocabulary}):
            raise ValueError(f"model {kind} does not have its unk_token {unknown}")
        if max(vocabulary.values(), default=0) > _MAX_ID:
            raise ValueError(f"model {kind} numbers a token above {_MAX_ID}")
        if len(set(vocabulary.values())) < len(vocabulary):  # the library would write one of them
            raise ValueError(f"model {kind} gives two tokens one number")
    else:
        raise ValueError(f"model {kind} is not supported")
    for token in tokens:
        _check_token(token)
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if len(model.get(affix) or "") > _MAX_AFFIX:
            raise ValueError(f"model {kind}: {affix} has more than {_MAX_AFFIX} characters")
    if model.get("dropout"):
        raise ValueError(f"model {kind} has dropout, which gives a text other ids each time")
    if model.get("max_input_chars_per_word", 0) > 1_000:
        raise ValueError(f"model {kind}: max_input_chars_per_word is above 1000")


def _check_token(token: str) -> None:
    if len(token) > _MAX_TOKEN:
        raise ValueError(f"has a token of more than {_MAX_TOKEN} characters")


def _special_tokens(content: dict[str, Any]) -> set[str]:
    """Return the tokens that stand for padding and for unknown ones."""
    model = content["model"]
    if model["type"] == "Unigram":
        return {model["vocab"][model["unk_id"]][0], *_PADS}
    return {model.get("unk_token"), UNK, *_PADS}


def _number(vocabulary: dict[str, int], specials: set[str]) -> np.ndarray:
    """Return the new id of each id of the file, int64 [ids]."""
    new_ids = np.full(max(vocabulary.values(), default=0) + 1, UNK_ID)
    others = sorted({i for token, i in vocabulary.items() if token not in specials})
    new_ids[others] = np.arange(len(others)) + len(SPECIALS)
    return new_ids


def _is_bytes(content: dict[str, Any]) -> bool:
    """Return whether the tokens are bytes, written as the characters of ByteLevel."""
    cut = list(_parts(content["pre_tokenizer"], "pretokenizers"))
    before = list(_parts(content["normalizer"], "normalizers"))
    return any(part["type"] == "ByteLevel" for part in (*cut, *before))


def encodable(text: str) -> str:
    """Replace half a surrogate pair, which JSON can spell and UTF-8 cannot, by "?"."""
    return text.encode(errors="replace").decode()
