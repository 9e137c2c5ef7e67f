import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from rnn_lab.data.characters import (
    NUM_BYTES,
    ByteTokenizer,
    CharacterTokenizer,
    characters,
    split_characters,
)
from rnn_lab.data.vocabulary import UNK_ID

MARKED = "aक\u0940ก\u0e33\u0e31e\u0301\u094d\ufe0f\u2764\u200d\U0001f469\U0001f3fd\ud800 \n你"
AWKWARD = st.one_of(st.text(), st.text(st.sampled_from(MARKED)))


@given(AWKWARD)
def test_a_mark_begins_no_character_but_the_first(text) -> None:
    parts = split_characters(text)
    assert "".join(parts) == text
    for part in parts:
        assert part
        assert all(
            unicodedata.category(c)[0] == "M" or c in "\u200c\u200d" or 0x1F3FB <= ord(c) <= 0x1F3FF
            for c in part[1:]
        )
    assert all(unicodedata.category(part[0])[0] != "M" for part in parts[1:])


@pytest.mark.parametrize(
    "text", ["भारत की राजधानी", "e\u0301te\u0301", "1\ufe0f\u20e3", "\u2764\ufe0f你好", "กิน ดี"]
)
def test_equals_the_grapheme_clusters_of_oniguruma(text) -> None:
    r"""\X of another library."""
    clusters = Split(Regex(r"\X"), "isolated").pre_tokenize_str(text)
    assert split_characters(text) == [cluster for cluster, _ in clusters]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n", []),
        ("Ab<br />C\td", list("ab c d")),
        ("की है", ["की", " ", "है"]),
        ("很好。", ["很", "好", "。"]),
        ("\u0301a", ["\u0301", "a"]),
    ],
)
def test_known_texts(text, expected) -> None:
    assert characters(text) == expected


def test_the_most_frequent_characters_are_kept() -> None:
    texts = ["好好好", "好吃吃", "吃贵"]
    every = CharacterTokenizer.train(texts, max_vocab_size=None, min_freq=1)
    assert every.state() == ["<pad>", "<unk>", "好", "吃", "贵"]
    frequent = CharacterTokenizer.train(texts, max_vocab_size=None, min_freq=2)
    assert frequent.state() == ["<pad>", "<unk>", "好", "吃"]
    few = CharacterTokenizer.train(texts, max_vocab_size=3, min_freq=1)
    assert few.state() == ["<pad>", "<unk>", "好"]
    assert [ids.tolist() for ids in few.encode_all(["好贵", ""])] == [[2, UNK_ID], []]
    assert [word for word, _ in every.words("好 吃")] == ["好", "\u2423", "吃"]


@given(AWKWARD)
def test_byte_ids_are_bytes(text) -> None:
    vocabulary = ByteTokenizer()
    (ids,) = vocabulary.encode_all([text])
    assert ids.dtype == np.int64
    assert bytes((ids - 2).tolist()) == text.encode(errors="replace")
    assert len(vocabulary) == NUM_BYTES > ids.max(initial=0)
    words = vocabulary.words(text)
    assert [i for _, of_word in words for i in of_word] == ids.tolist()


@pytest.mark.parametrize("state", [[], "", 0, {"a": 1}])
def test_bytes_have_no_state(state) -> None:
    with pytest.raises(ValueError, match="has a state"):
        ByteTokenizer(state)


def test_chinese_reviews_have_a_token_for_each_ideograph(own_texts) -> None:
    lines = (own_texts / "waimai_10k.csv").read_text(encoding="utf-8").splitlines()[1:]
    vocabulary = CharacterTokenizer.train(lines, max_vocab_size=10_000, min_freq=1)
    for line, ids in zip(lines[:200], vocabulary.encode_all(lines[:200]), strict=True):
        ideographs = sum("CJK UNIFIED" in unicodedata.name(c, "") for c in line)
        assert ideographs <= len(ids) <= len(line)
        assert UNK_ID not in ids
