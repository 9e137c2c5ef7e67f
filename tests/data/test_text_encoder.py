import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnn_lab.data.bpe import SubwordTokenizer
from rnn_lab.data.characters import ByteTokenizer, CharacterTokenizer
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_json import JsonTokenizer
from rnn_lab.data.vocabulary import UNK_ID, WordTokenizer
from rnn_lab.errors import CheckpointError
from tests.data.made import BLAME, PRAISE, random_texts, word_piece
from tests.data.torchtext_answers import WORD_VOCABULARIES

WORDS = WordTokenizer(["<pad>", "<unk>", "the", "film", "was", "good"])


LEARNED = (SubwordTokenizer, CharacterTokenizer)


@pytest.fixture(scope="module", params=[*WORD_VOCABULARIES, *LEARNED, ByteTokenizer, JsonTokenizer])
def encoder(request) -> TextEncoder:
    kind = request.param
    if kind is ByteTokenizer:
        return TextEncoder(ByteTokenizer(), 20, "right")
    if kind is JsonTokenizer:
        return TextEncoder(JsonTokenizer(word_piece(["the", "film", "##s", "日"])), 20, "right")
    if kind in LEARNED:
        learned = kind.train(random_texts(50), max_vocab_size=300, min_freq=1)
        return TextEncoder(learned, 20, "right")
    return TextEncoder(kind(WORDS.state()), 20, "right")


def test_ids_of_a_text() -> None:
    encoder = TextEncoder(WORDS, 100, "right")
    ids = encoder.encode("The film was GOOD, very good")
    assert ids.tolist() == [2, 3, 4, 5, UNK_ID, UNK_ID, 5]
    assert ids.dtype == np.int64
    assert encoder.vocab_size == 6


@pytest.mark.parametrize("text", ["", " ", "\n\t", "<br />", '"";:'])
def test_a_text_without_a_token_is_one_unk(text) -> None:
    assert TextEncoder(WORDS, 100, "right").encode(text).tolist() == [UNK_ID]


@given(
    text=st.one_of(st.text(), st.sampled_from(["The film, was GOOD.", "<br />", "naïve 🎬 日本"]))
)
def test_words_have_the_ids_of_the_text(encoder, text) -> None:
    words = encoder.words(text)
    ids = np.concatenate([ids for _, ids in words])
    np.testing.assert_array_equal(ids[encoder.kept(len(ids))], encoder.encode(text))
    assert all(len(ids) for _, ids in words)


def test_truncation_cuts_the_named_end() -> None:
    text = "the film was good"
    assert TextEncoder(WORDS, 3, "right").encode(text).tolist() == [2, 3, 4]
    assert TextEncoder(WORDS, 3, "left").encode(text).tolist() == [3, 4, 5]
    assert TextEncoder(WORDS, 3, "middle").encode(text).tolist() == [2, 4, 5]
    assert TextEncoder(WORDS, 2, "middle").encode(text).tolist() == [4, 5]
    for side in ("left", "middle", "right"):
        assert TextEncoder(WORDS, 4, side).encode(text).tolist() == [2, 3, 4, 5]


@given(st.lists(st.text(max_size=60), max_size=5))
def test_many_texts_are_encoded_like_one(encoder, texts) -> None:
    together = encoder.encode_all(texts)
    assert [ids.tolist() for ids in together] == [encoder.encode(text).tolist() for text in texts]
    for ids in together:
        assert 1 <= len(ids) <= 20
        assert ids.min() >= 1
        assert ids.max() < encoder.vocab_size


def test_survives_a_checkpoint_that_may_hold_only_plain_types(encoder) -> None:
    buffer = io.BytesIO()
    torch.save(encoder.state_dict(), buffer)
    buffer.seek(0)
    again = TextEncoder.from_state_dict(torch.load(buffer, weights_only=True))
    assert type(again.vocabulary) is type(encoder.vocabulary)
    assert again.fingerprint == encoder.fingerprint
    for text in (PRAISE, BLAME, "", "映画 😀", "<pad>"):
        assert again.encode(text).tolist() == encoder.encode(text).tolist()


def test_fingerprint_tells_vocabularies_apart() -> None:
    swapped = WordTokenizer(["<pad>", "<unk>", "film", "the", "was", "good"])
    assert TextEncoder(WORDS, 9, "left").fingerprint == TextEncoder(WORDS, 5, "right").fingerprint
    assert TextEncoder(WORDS, 9, "left").fingerprint != TextEncoder(swapped, 9, "left").fingerprint


def test_a_run_of_torchtext_is_read_with_or_without_it() -> None:
    encoder = TextEncoder(WORDS, 9, "left")
    again = TextEncoder.from_state_dict(encoder.state_dict() | {"tokenizer": "torchtext"})
    assert again.fingerprint == encoder.fingerprint
    text = "The film, was GOOD; very <pad>"
    assert again.encode(text).tolist() == encoder.encode(text).tolist() == [2, 3, 1, 4, 5, 1, 1]


@pytest.mark.parametrize(
    "damage",
    [
        {"tokenizer": "spacy"},
        {"tokenizer": ["basic_english"]},
        {"tokenizer": "bpe"},
        {"tokenizer": "json"},
        {"tokenizer": "byte"},
        {"tokenizer": "char", "vocabulary": ["a", "b"]},
        {"tokenizer": "char", "vocabulary": None},
        {"tokenizer": "torchtext", "vocabulary": None},
        {"tokenizer": "torchtext", "vocabulary": ["a", "b"]},
        {"vocabulary": None},
        {"vocabulary": "<pad>"},
        {"vocabulary": ["<pad>", "<unk>", "a", "a"]},
        {"vocabulary": ["<pad>", "<unk>", ["a"]]},
        {"vocabulary": {"<pad>": 0}},
        {"max_length": 0},
        {"max_length": True},
        {"max_length": "9"},
        {"truncation_side": "both"},
        {"_target_": "os.system"},
    ],
)
def test_refuses_a_damaged_state(damage) -> None:
    state = TextEncoder(WORDS, 9, "right").state_dict() | damage
    with pytest.raises(CheckpointError, match=r"^text encoder: ") as error:
        TextEncoder.from_state_dict(state)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("state", [None, [], {}, "basic_english"])
def test_refuses_what_is_no_state(state) -> None:
    with pytest.raises(CheckpointError, match=r"^text encoder: "):
        TextEncoder.from_state_dict(state)


@pytest.mark.parametrize("kind", [*WORD_VOCABULARIES, CharacterTokenizer])
def test_a_vocabulary_is_extended_by_new_tokens_alone(kind) -> None:
    first, second = kind(["<pad>", "<unk>", "b", "a"]), kind(["<pad>", "<unk>", "c", "a", "d"])
    extended = first.extended(second)
    assert extended.state() == ["<pad>", "<unk>", "b", "a", "c", "d"]
    assert type(extended) is type(first)
    assert first.extended(second, 5).state() == extended.state()[:5]
    assert first.extended(second, 3).state() == first.state()  # it loses none


def test_learned_subwords_stay_as_they_are() -> None:
    first, second = (
        SubwordTokenizer.train(random_texts(texts), max_vocab_size=300, min_freq=1)
        for texts in (50, 20)
    )
    assert first.extended(second) is first
