import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_lab.data.duplicates import count_duplicates, split_hashes
from rnn_lab.data.vocabulary import PAD_ID, UNK_ID, sort_by_frequency
from tests.data.torchtext_answers import WORD_VOCABULARIES, order_of_torchtext


@settings(deadline=None)  # torchtext takes seconds to import
@given(
    st.lists(st.sampled_from(["a", "b", "c", "B", "é", "映", "<unk>", "<pad>", "ab", "."])),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(3, 9)),
)
def test_order_equals_torchtext(tokens, min_freq, max_tokens) -> None:
    counts = Counter(tokens)
    ours = sort_by_frequency(
        list(counts), list(counts.values()), min_freq=min_freq, max_tokens=max_tokens
    )
    assert ours == order_of_torchtext([tokens], min_freq=min_freq, max_tokens=max_tokens)


def test_order_by_hand() -> None:
    order = sort_by_frequency(["seen", "the", "a", "never"], [1, 3, 1, 0])
    assert order == ["<pad>", "<unk>", "the", "a", "seen"]


@pytest.fixture(scope="module")
def imdb_counts(tokenized_imdb) -> list[int]:
    numbers = tokenized_imdb.splits["train"].values
    return np.bincount(numbers, minlength=len(tokenized_imdb.tokens)).tolist()


def sha256(lines) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vocabulary_specials_unk", {"specials": ["<unk>"]}),
        ("vocabulary_pad_unk_min_freq_5", {"min_freq": 5}),
        ("vocabulary_pad_unk_max_tokens_30000", {"max_tokens": 30_000}),
    ],
)
def test_vocabulary_of_imdb_equals_torchtext(
    answers, tokenized_imdb, imdb_counts, name, options
) -> None:
    expected = answers[name]
    order = sort_by_frequency(tokenized_imdb.tokens, imdb_counts, **options)
    assert len(order) == expected["size"]
    first = expected.get("first_40") or expected.get("first_10") or []
    assert order[: len(first)] == first
    assert sha256(order) == expected["sha256_of_itos"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_ids_of_imdb_equal_torchtext(answers, tokenized_imdb, imdb_counts, split) -> None:
    order = sort_by_frequency(tokenized_imdb.tokens, imdb_counts, specials=["<unk>"])
    position = {token: str(i) for i, token in enumerate(order)}
    text = np.array([position.get(token, "0") for token in tokenized_imdb.tokens], dtype=object)
    numbers = tokenized_imdb.splits[split]
    ids = (" ".join(text[numbers[row]]) for row in range(len(numbers)))
    assert sha256([*ids, ""]) == answers["vocabulary_specials_unk"][f"sha256_of_{split}_ids"]


@pytest.mark.parametrize("kind", WORD_VOCABULARIES)
def test_ids_of_words(kind) -> None:
    vocabulary = kind(["<pad>", "<unk>", "the", "film"])
    assert len(vocabulary) == 4
    texts = ["film the never-seen", "The FILM", ""]
    encoded = vocabulary.encode_all(texts)
    assert [ids.tolist() for ids in encoded] == [[3, 2, UNK_ID], [2, 3], []]
    assert {ids.dtype for ids in encoded} == {np.dtype(np.int64)}


@pytest.mark.parametrize("kind", WORD_VOCABULARIES)
def test_a_text_cannot_spell_padding(kind) -> None:
    vocabulary = kind(["<pad>", "<unk>", "the"])
    assert PAD_ID not in vocabulary.encode_all(["<pad> the <PAD>"])[0]


@pytest.mark.parametrize("kind", WORD_VOCABULARIES)
@pytest.mark.parametrize(
    "tokens",
    [[], ["a", "b"], ["<unk>", "<pad>", "a"], ["<pad>", "<unk>", "a", "a"], ["<pad>", "<unk>", 3]],
)
def test_refuses_what_is_no_vocabulary(kind, tokens) -> None:
    with pytest.raises(ValueError, match=r"begin|twice|string"):
        kind(tokens)


def test_duplicates_of_imdb(imdb_corpus, tokenized_imdb, imdb_cache) -> None:
    """The counts of plain Python over the archive, and published counts."""
    keys = split_hashes(imdb_corpus, imdb_cache, np.arange(25_000), np.arange(0))
    counts = count_duplicates(keys)
    for kind, train, test in (("exact", 96, 199), ("by_token", 99, 201)):
        assert counts[kind] == {
            "train": {"examples": train, "label_conflicts": 0},
            "test": {"examples": test, "label_conflicts": 0},
            "test_in_train": {"examples": 123, "label_conflicts": 0},
        }
    train = set(imdb_corpus.train.texts)
    assert len(train) == 25_000 - 96
    assert sum(text in train for text in imdb_corpus.test.texts) == 123
