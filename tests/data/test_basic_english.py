import hashlib
from itertools import chain

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnn_lab.data.basic_english import basic_english, number_tokens
from tests.data.torchtext_answers import basic_english_of_torchtext

MARKS = ["<br />", "<BR />", "<br", "/>", "<", "/", ">", *"'\".,()!?;:-"]
WORDS = ["Σ", "ΑΣ", "İ", "ẞ", "é", "映画", "😀", "\ud800", "Good", "film", "b", "R", "1"]
SPACES = [" /", " ", "\n", "\t", "\x1c", "\x85", "\xa0", "\u2028", "\u200b", "\x00", "\ufeff"]
awkward = st.lists(st.sampled_from(MARKS + WORDS + SPACES)).map("".join)


@settings(deadline=None)  # torchtext takes seconds to import
@given(st.one_of(awkward, st.text()))
@example('<br "/>')
@example("<br;/>")
@example("<br'/>")
@example("ΑΣ'Σ.")
def test_equals_torchtext(text: str) -> None:
    assert basic_english(text) == basic_english_of_torchtext(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \n\t", []),
        ("Not BAD!", ["not", "bad", "!"]),
        ('She said: "no"; twice.', ["she", "said", "no", "twice", "."]),
        ("I'd watch (again)?", ["i", "'", "d", "watch", "(", "again", ")", "?"]),
        ("one<br /><br />two<br/>", ["one", "two<br/>"]),
        ("8.5/10, really...", ["8", ".", "5/10", ",", "really", ".", ".", "."]),
        ("tab\tnbsp\xa0zwsp\u200b|", ["tab", "nbsp", "zwsp\u200b|"]),
    ],
)
def test_known_texts(text: str, tokens: list[str]) -> None:
    assert basic_english(text) == tokens


def test_equals_torchtext_on_recorded_texts(golden: dict) -> None:
    assert len(golden["tokens"]) > 20
    for case in golden["tokens"]:
        assert basic_english(case["text"]) == case["tokens"]
        assert basic_english_of_torchtext(case["text"]) == case["tokens"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_equals_torchtext_on_all_of_imdb(answers: dict, tokenized_imdb, split) -> None:
    numbers = tokenized_imdb.splits[split]
    tokens = np.array(tokenized_imdb.tokens, dtype=object)
    digest = hashlib.sha256()
    for row in range(len(numbers)):
        review = tokens[numbers[row]]
        digest.update((" ".join(review) + "\n").encode())
    assert len(numbers.values) == answers[f"{split}_tokens"]
    assert digest.hexdigest() == answers[f"sha256_of_{split}_tokens"]


@given(st.lists(st.text("ab .'\n"), max_size=8))
def test_numbers_spell_the_tokens_in_order_of_first_appearance(texts: list[str]) -> None:
    tokens, numbers, lengths = number_tokens(texts)
    expected = [basic_english(text) for text in texts]
    words = list(chain.from_iterable(expected))
    assert list(lengths) == [len(of_text) for of_text in expected]
    assert [tokens[number] for number in numbers] == words
    assert tokens == list(dict.fromkeys(words))
