import json
import os
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel

from rnn_lab.data.bpe import SMALLEST_VOCABULARY, SubwordTokenizer, _untrained
from rnn_lab.data.config import DemoConfig
from rnn_lab.data.vocabulary import PAD_ID, UNK_ID
from rnn_lab.errors import ConfigError
from rnn_lab.validation import validate
from tests.data.made import BLAME, PRAISE, random_texts

TRAINING = random_texts(200) + [PRAISE, BLAME] * 5


@pytest.fixture(scope="module")
def vocabulary() -> SubwordTokenizer:
    return SubwordTokenizer.train(TRAINING, max_vocab_size=400, min_freq=2)


def test_max_tokens_is_the_size(vocabulary) -> None:
    assert len(vocabulary) == 400


def test_min_freq_leaves_rare_pairs_unmerged() -> None:
    rare = SubwordTokenizer.train(["ab", "cd", "cd"], max_vocab_size=1_000, min_freq=2)
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
    assert decoder.decode(ids.tolist(), skip_special_tokens=False) == expected
    if "<br />" not in text.lower():
        assert expected.split() == text.lower().split()


def test_a_text_cannot_spell_padding(vocabulary) -> None:
    again = SubwordTokenizer(vocabulary.state())
    for ids in again.encode_all(["<pad> <unk>", "a<pad>b"]):
        assert set(ids.tolist()).isdisjoint({PAD_ID, UNK_ID})


def test_half_a_surrogate_pair_is_like_any_other_character(vocabulary) -> None:
    assert (
        vocabulary.encode_all(["a\ud800b"])[0].tolist()
        == vocabulary.encode_all(["a?b"])[0].tolist()
    )


def test_equal_in_every_process_and_on_any_number_of_threads(vocabulary) -> None:
    script = (
        "import json, sys\n"
        "from rnn_lab.data.bpe import SubwordTokenizer\n"
        "v = SubwordTokenizer.train(json.load(sys.stdin), max_vocab_size=400, min_freq=2)\n"
        "print(v.state(), end='')\n"
    )
    for threads in ("1", "4"):
        environment = {
            "RAYON_NUM_THREADS": threads,
            "PYTHONPATH": os.environ["PYTHONPATH"],
            "PYTHONIOENCODING": "utf-8",
        }
        state = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            input=json.dumps(TRAINING).encode(),
            capture_output=True,
            check=True,
        ).stdout.decode()
        assert state == vocabulary.state()


def test_smallest_vocabulary_is_the_bytes() -> None:
    vocabulary = SubwordTokenizer.train(TRAINING, max_vocab_size=SMALLEST_VOCABULARY, min_freq=1)
    assert len(vocabulary) == SMALLEST_VOCABULARY


@pytest.mark.parametrize("max_vocab_size", [None, 100, SMALLEST_VOCABULARY - 1])
def test_too_few_tokens_are_refused_before_any_data_is_read(max_vocab_size) -> None:
    options = {"source": "demo", "tokenizer": "bpe", "max_vocab_size": max_vocab_size}
    given = "null" if max_vocab_size is None else max_vocab_size
    with pytest.raises(
        ConfigError, match=rf"^max_vocab_size={given}: data\.tokenizer=bpe needs a number"
    ):
        validate(DemoConfig, options)
    validate(DemoConfig, options | {"tokenizer": "basic_english"})


@pytest.mark.parametrize("state", [None, ["<pad>", "<unk>"], "", "{}", "not json"])
def test_refuses_what_is_no_tokenizer(state) -> None:
    with pytest.raises(ValueError, match="is not a"):
        SubwordTokenizer(state)


def test_refuses_a_tokenizer_without_our_specials() -> None:
    with pytest.raises(ValueError, match="has other special tokens than <pad>, <unk>"):
        SubwordTokenizer(Tokenizer(models.BPE()).to_str())


@pytest.mark.parametrize("swapped", ["specials", "gap"])
def test_refuses_other_ids(vocabulary, swapped) -> None:
    content = json.loads(vocabulary.state())
    ids = content["model"]["vocab"]
    if swapped == "specials":
        ids["<pad>"], ids["<unk>"] = 1, 0
    else:
        ids[max(ids, key=ids.__getitem__)] += 1
    with pytest.raises(ValueError, match=r"does not (begin with|number)"):
        SubwordTokenizer(json.dumps(content))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("भारत की राजधानी", ["भारत", "की", "राजधानी"]),
        ("กำลัง น้ำ", ["กำลัง", "น้ำ"]),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627", ["\u0645\u06cc\u200c\u062e\u0648\u0627"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("1\ufe0f\u20e3 \u2764\ufe0f!", ["1\ufe0f\u20e3", "\u2764\ufe0f!"]),
        ("\u0301 a", ["\u0301", "a"]),
        ("it's 42km, no?", ["it", "'s", "42", "km", ",", "no", "?"]),
    ],
)
def test_marks_stay_with_their_letters(vocabulary, text, words) -> None:
    assert [word for word, _ in vocabulary.words(text)] == words


@given(st.text(st.characters(max_codepoint=0x2FF, exclude_characters="İ")))  # lower: i and a mark
def test_words_without_marks_are_those_of_gpt2(text) -> None:
    """As the library itself cuts them, which has no expression for marks."""
    ours = _untrained()
    normal = ours.normalizer.normalize_str(text)
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    assert ours.pre_tokenizer.pre_tokenize_str(normal) == theirs.pre_tokenize_str(normal)


@given(st.text(st.sampled_from("aक\u0940\u0e01\u0e31\u0301\ufe0f\u20641\u20e3 .!'s")))
def test_no_word_begins_with_a_mark_but_after_a_space(text) -> None:
    pieces = _untrained().pre_tokenizer.pre_tokenize_str(" " + text)
    for _, (start, _) in pieces:
        before, first = (" " + text)[max(start - 1, 0) : start], (" " + text)[start]
        if unicodedata.category(first)[0] == "M" and not before.isspace():
            # After an apostrophe's own word, such as 's, a mark has no letter to stay with.
            assert (" " + text)[:start].endswith("'s")


def test_hindi_words_are_those_between_spaces(own_texts) -> None:
    lines = (own_texts / "trec_hindi_train.label").read_text(encoding="utf-8").splitlines()
    vocabulary = SubwordTokenizer.train(lines, max_vocab_size=2_000, min_freq=1)
    whole = 0
    for line in lines[:300]:
        words = [word for word, _ in vocabulary.words(line)]
        assert "".join(words) == "".join(line.lower().split())
        assert not any(unicodedata.category(word[0])[0] == "M" for word in words)
        whole += sum(word in words for word in line.lower().split())
    assert whole > 0.8 * sum(len(line.split()) for line in lines[:300])


def test_a_pipeline_of_before_is_still_read(vocabulary) -> None:
    """Checkpoints contain their pipeline; the first version did not keep marks."""
    before = json.loads(vocabulary.state())
    before["normalizer"]["normalizers"].pop()
    before["pre_tokenizer"] = json.loads(
        pre_tokenizers.ByteLevel(add_prefix_space=True).__getstate__()
    )
    old = SubwordTokenizer(json.dumps(before))
    assert [word for word, _ in old.words("Good की")] == ["good", "क", "\u0940"]
    assert old.encode_all(["It's a good film"])[0].tolist() == (
        vocabulary.encode_all(["It's a good film"])[0].tolist()
    )
