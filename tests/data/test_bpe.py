import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from tokenizers.decoders import ByteLevel

from rnn_lab.data.bpe import SMALLEST_VOCABULARY, SubwordVocabulary
from rnn_lab.data.config import DemoConfig
from rnn_lab.data.vocabulary import PAD_ID, UNK_ID
from rnn_lab.errors import ConfigError
from rnn_lab.validation import validate
from tests.data.made import BLAME, PRAISE, random_texts

TRAINING = random_texts(200) + [PRAISE, BLAME] * 5


@pytest.fixture(scope="module")
def vocabulary() -> SubwordVocabulary:
    return SubwordVocabulary.train(TRAINING, max_vocab_size=400, min_freq=2)


def test_max_tokens_is_the_size(vocabulary) -> None:
    assert len(vocabulary) == 400


def test_min_freq_leaves_rare_pairs_unmerged() -> None:
    rare = SubwordVocabulary.train(["ab", "cd", "cd"], max_vocab_size=1_000, min_freq=2)
    tokens = json.loads(rare.state())["model"]["vocab"]
    assert "cd" in {token.removeprefix("Ġ") for token in tokens}
    assert not any("ab" in token for token in tokens if not token.startswith("<"))


@given(st.text())
def test_every_text_comes_back_lower_case(vocabulary, text) -> None:
    decoder = Tokenizer.from_str(vocabulary.state())
    ids = vocabulary.encode_all([text])[0]
    assert UNK_ID not in ids
    assert PAD_ID not in ids
    decoder.decoder = ByteLevel()
    expected = decoder.normalizer.normalize_str(text)
    assert decoder.decode(ids.tolist(), skip_special_tokens=False).removeprefix(" ") == expected
    if "<br />" not in text.lower():
        assert expected.split() == text.lower().split()


def test_a_text_cannot_spell_padding(vocabulary) -> None:
    again = SubwordVocabulary(vocabulary.state())
    for ids in again.encode_all(["<pad> <unk>", "a<pad>b"]):
        assert set(ids.tolist()).isdisjoint({PAD_ID, UNK_ID})


def test_half_a_surrogate_pair_is_like_any_other_character(vocabulary) -> None:
    assert (
        vocabulary.encode_all(["a\ud800b"])[0].tolist()
        == vocabulary.encode_all(["a?b"])[0].tolist()
    )


def test_equal_in_every_process_and_on_any_number_of_threads(vocabulary) -> None:
    script = (
        "from tests.data.test_bpe import TRAINING, SubwordVocabulary\n"
        "v = SubwordVocabulary.train(TRAINING, max_vocab_size=400, min_freq=2)\n"
        "print(v.state(), end='')\n"
    )
    for threads in ("1", "4"):
        environment = {
            "RAYON_NUM_THREADS": threads,
            "PYTHONPATH": os.environ["PYTHONPATH"],
            "PYTHONIOENCODING": "utf-8",
        }
        state = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, check=True
        ).stdout.decode()
        assert state == vocabulary.state()


def test_smallest_vocabulary_is_the_bytes() -> None:
    vocabulary = SubwordVocabulary.train(TRAINING, max_vocab_size=SMALLEST_VOCABULARY, min_freq=1)
    assert len(vocabulary) == SMALLEST_VOCABULARY


@pytest.mark.parametrize("max_vocab_size", [None, 100, SMALLEST_VOCABULARY - 1])
def test_too_few_tokens_are_refused_before_any_data_is_read(max_vocab_size) -> None:
    options = {"source": "demo", "tokenizer": "bpe", "max_vocab_size": max_vocab_size}
    with pytest.raises(
        ConfigError, match=rf"^max_vocab_size={max_vocab_size}: data\.tokenizer=bpe needs a number"
    ):
        validate(DemoConfig, options)
    validate(DemoConfig, options | {"tokenizer": "basic_english"})


@pytest.mark.parametrize("state", [None, ["<pad>", "<unk>"], "", "{}", "not json"])
def test_refuses_what_is_no_tokenizer(state) -> None:
    with pytest.raises(ValueError, match="is not a"):
        SubwordVocabulary(state)


def test_refuses_a_tokenizer_without_our_specials() -> None:
    with pytest.raises(ValueError, match="has another normalizer"):
        SubwordVocabulary(Tokenizer(models.BPE()).to_str())
