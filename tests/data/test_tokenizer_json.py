import json
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import RunEncoding, TextDataModule
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_json import JsonTokenizer, read_tokenizer_json
from rnn_lab.data.vocabulary import PAD_ID, UNK_ID
from rnn_lab.errors import ConfigError
from tests.data.made import BLAME, PRAISE, random_texts, word_piece

TEXTS = [PRAISE, BLAME, "你好。世界", "naïve 🎬", "", " ", *random_texts(20)]
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def trained(kind: str) -> Tokenizer:
    """A tokenizer of the library, as other projects have them."""
    if kind == "word_piece":
        return Tokenizer.from_str(word_piece(["the", "film", "a", "##s", "dull", "."]))
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, unk_token="<unk>", special_tokens=["<s>", "<pad>", "<unk>"]
        )
    elif kind == "words":
        tokenizer = Tokenizer(models.WordLevel(unk_token="UNKNOWN"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=["first", "UNKNOWN"], vocab_size=100)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
    trainer.show_progress = False
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


@pytest.mark.parametrize("kind", ["word_piece", "unigram", "words", "gpt"])
def test_tokens_are_those_of_the_library(kind) -> None:
    theirs = trained(kind)
    ours = JsonTokenizer(theirs.to_str())
    theirs.no_truncation()
    theirs.no_padding()
    token_of: dict[int, str] = {}
    for text, ids in zip(TEXTS, ours.encode_all(TEXTS), strict=True):
        file_ids = theirs.encode(text, add_special_tokens=False).ids
        tokens = [theirs.id_to_token(i) for i in file_ids]
        assert len(ids) == len(tokens)
        assert PAD_ID not in ids
        assert ids.max(initial=0) < len(ours)
        for i, token in zip(ids.tolist(), tokens, strict=True):
            assert token_of.setdefault(i, token) == token or i == UNK_ID
            assert (i == UNK_ID) == (token in ("[UNK]", "<unk>", "UNKNOWN"))
    again = JsonTokenizer(ours.state())
    assert again.state() == ours.state()
    for mine, same in zip(ours.encode_all(TEXTS), again.encode_all(TEXTS), strict=True):
        np.testing.assert_array_equal(mine, same)


def test_words_are_shown_as_in_the_text() -> None:
    tokenizer = JsonTokenizer(word_piece(["the", "film", "##s", "日"]))
    words = tokenizer.words("The FILMS 日x")
    assert [(word, len(ids)) for word, ids in words] == [
        *(("The", 1), ("FILMS", 2), ("日", 1), ("x", 1))
    ]
    assert [ids.tolist() for _, ids in words][3] == [UNK_ID]


def test_without_words_each_token_is_one() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "▁": 3}, [("a", "b")]))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    ours = JsonTokenizer(tokenizer.to_str())
    assert [word for word, _ in ours.words("ab a")] == ["ab", "\u2423", "a"]


def test_a_text_cannot_spell_padding() -> None:
    for kind in ("unigram", "word_piece", "words"):
        content = json.loads(trained(kind).to_str())
        vocabulary = content["model"]["vocab"]
        if kind == "words":
            vocabulary["[PAD]"] = len(vocabulary)
            content["pre_tokenizer"] = {"type": "WhitespaceSplit"}
        tokenizer = JsonTokenizer(json.dumps(content))
        for ids in tokenizer.encode_all(["<pad> [PAD]", "x[PAD]y<pad>"]):
            assert PAD_ID not in ids


GROW = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}
# Each letter becomes a ligature, which is four such letters again once it is normalized.
LIGATURE = [
    {"type": "Replace", "pattern": {"String": "\u0644"}, "content": "\ufdfa"},
    {"type": "NFKD"},
] * 8


def unsafe(place: str, part: object) -> str:
    content = json.loads(word_piece(["the", "film"]))
    if place == "model":
        content["model"] |= part
    else:
        content[place] = part
    return json.dumps(content)


def sequence(*parts: object) -> dict:
    return {"type": "Sequence", "normalizers": list(parts)}


@pytest.mark.parametrize(
    ("place", "part", "reason"),
    [
        ("normalizer", sequence(*[GROW] * 10), "normalizer Replace makes texts longer"),
        ("normalizer", sequence(*LIGATURE), "normalizer Replace inserts"),
        ("normalizer", sequence(*[{"type": "NFC"}] * 17), "normalizer has 17 parts"),
        ("normalizer", sequence(*[{"type": "ByteLevel"}] * 9), "normalizer has ByteLevel twice"),
        ("normalizer", {"type": "Prepend", "prepend": "a" * 99}, "Prepend needs 1 to 16"),
        ("normalizer", {"type": "Prepend", "prepend": ""}, "Prepend needs 1 to 16"),
        (
            "normalizer",
            {"type": "Precompiled", "precompiled_charsmap": ""},
            "normalizer Precompiled is not supported",
        ),
        (
            "normalizer",
            {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
            "normalizer Replace has an unknown regular expression",
        ),
        (
            "normalizer",
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": "  "},
            "normalizer Replace makes texts longer",
        ),
        (
            "normalizer",
            {"type": "Replace", "pattern": {"String": ""}, "content": ""},
            "normalizer Replace has the pattern",
        ),
        (
            "pre_tokenizer",
            {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Removed"},
            "pre_tokenizer Split has an unknown regular expression",
        ),
        ("pre_tokenizer", {"type": "Delimiter"}, "pre_tokenizer Delimiter is not supported"),
        ("model", {"unk_token": "none"}, "model WordPiece does not have its unk_token"),
        ("model", {"max_input_chars_per_word": 10**9}, "max_input_chars_per_word is above"),
        ("model", {"continuing_subword_prefix": "#" * 99}, "continuing_subword_prefix has more"),
        ("model", {"vocab": {"[UNK]": 2**31}}, "numbers a token above"),
        ("model", {"vocab": {"[UNK]": 0, "a" * 2_000: 1}}, "has a token of more than"),
        ("model", {"vocab": {"[UNK]": 0, "a": 0}}, "gives two tokens one number"),
        ("model", {"type": "Other"}, "model Other is not supported"),
        ("added_tokens", [{"id": 2**31, "content": "x"}], "numbers a token 2147483648"),
        ("normalizer", json.loads("[" * 500 + "]" * 500), "list indices"),
    ],
)
def test_unsafe_components_are_refused_by_name(place, part, reason) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=f"is not a tokenizer: .*{reason}"):
        JsonTokenizer(unsafe(place, part))
    assert time.monotonic() - started < 5


def test_nested_sequences_are_counted() -> None:
    part: dict = GROW
    for _ in range(40):
        part = sequence(part)
    with pytest.raises(ValueError, match="sequences within sequences"):
        JsonTokenizer(unsafe("normalizer", part))


def test_of_a_key_that_occurs_twice_the_checked_one_is_used() -> None:
    state = word_piece(["the", "film"])
    key = '"normalizer":'
    twice = state.replace(key, f'"normalizer":{json.dumps(sequence(*[GROW] * 10))},{key}')
    tokenizer = JsonTokenizer(twice)
    assert "aaaaaaaaaa" not in tokenizer.state()
    assert len(tokenizer.encode_all(["a"])[0]) == 1


def test_dropout_is_refused() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], dropout=0.5))
    with pytest.raises(ValueError, match="dropout"):
        JsonTokenizer(tokenizer.to_str())


def test_a_run_uses_the_file_and_its_checkpoint_no_longer_does(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(word_piece(["the", "film", "was", "a"]))
    config = DemoConfig(
        num_train=60, num_test=20, tokenizer=str(path), cache_dir=str(tmp_path / "cache")
    )
    data = TextDataModule(config)
    data.setup()
    assert data.vocab_size == 8
    assert data.config.tokenizer == str(path)
    state = data.state_dict()
    path.unlink()
    again = TextDataModule(
        DemoConfig(**state["config"] | {"cache_dir": str(tmp_path / "cache")}),
        encoding=RunEncoding(TextEncoder.from_state_dict(state["text_encoder"]), data.class_names),
    )
    again.setup()
    np.testing.assert_array_equal(again.splits["test"].ids, data.splits["test"].ids)
    with pytest.raises(ConfigError, match=r"^data\.tokenizer=.*mine\.json: No such file"):
        TextDataModule(config).setup()


@pytest.mark.parametrize("content", ["", "{}", "not json", "[]", "null", '{"model": 3}'])
def test_an_impossible_file_is_one_line(tmp_path: Path, content) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"^data\.tokenizer=.*: is not a tokenizer") as error:
        read_tokenizer_json(str(path))
    assert str(error.value).isprintable()


def test_a_folder_or_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ConfigError, match=r"is not a tokenizer\.json"):
        read_tokenizer_json(str(tmp_path / "folder.json"))


def test_more_tokens_than_the_limit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(word_piece(["the", "film"]))
    config = DemoConfig(
        num_train=60, tokenizer=str(path), max_vocab_size=5, cache_dir=str(tmp_path / "cache")
    )
    with pytest.raises(ConfigError, match=r"^data\.max_vocab_size=5: .* has 6 tokens"):
        TextDataModule(config).setup()
