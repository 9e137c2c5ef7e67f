"""The texts of a language model: training texts, then unlabelled ones, without those held out."""

import numpy as np
import pytest

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.sources.text_files import FilesConfig
from rnn_lab.data.storage import ConcatenatedArrays
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.validation import validate


@pytest.fixture
def load(tmp_path):
    """Set up a data module, without labels, on a few texts of which every tenth is validation."""
    rows = [f"film number {row} was {word},{word}" for row in range(20) for word in ("bad", "good")]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows, "hm,bad", "ah,good"]))

    def load_data(**options) -> TextDataModule:
        config = {"train_path": str(tmp_path / "mine.csv"), "cache_dir": str(tmp_path / "cache")}
        data = TextDataModule(FilesConfig(**(config | options)), use_labels=False)
        data.setup()
        return data

    return load_data


def test_a_language_model_reads_training_and_unlabelled_texts(load, tmp_path):
    plain = load()
    held_out = plain.texts_of("validation")[0][0]
    more = ["film number 3 was unseen", held_out, "number", "was bad"]
    (tmp_path / "more.txt").write_text("\n".join(more))
    data = load(unlabelled=str(tmp_path / "more.txt"))
    about = dict(data.pretraining_texts.about)
    fingerprint = about.pop("unlabelled_fingerprint")
    training = data.splits["train"]
    assert about == {"training": len(training), "unlabelled": 3, "held_out": 1}

    encoder = data.text_encoder.vocabulary
    texts = [*data.texts_of("train")[0], "film number 3 was unseen", "was bad"]
    longer = [text for text in texts if " " in text]  # one token predicts nothing
    split = data.pretraining_texts.split
    assert len(split) == len(longer)
    for row, ids in enumerate(encoder.encode_all(longer)):
        assert split[row].tolist() == list(ids)
    assert set(split.labels) == {-1}
    batches = list(data.train_dataloader())
    assert sum(len(batch.labels) for batch in batches) == len(longer)
    assert len(batches) == data.num_batches("train")

    (tmp_path / "more.txt").write_text("\n".join(more).replace("unseen", "bad"))
    changed = load(unlabelled=str(tmp_path / "more.txt")).pretraining_texts.about
    assert changed["unlabelled_fingerprint"] != fingerprint


def test_without_unlabelled_texts_those_of_training_are_read(load):
    about = load().pretraining_texts.about
    assert about == {"training": about["training"]}


def test_a_language_model_needs_two_tokens_and_no_classes(load):
    with pytest.raises(DataError, match=r"no training text has two tokens or more \(data\.max_l"):
        load(max_length=1).train_dataloader()
    with pytest.raises(ConfigError, match=r"data\.class_weights: is for classes, and a language"):
        load(class_weights="balanced")


def test_two_arrays_are_read_as_one():
    first, second = np.arange(5, dtype=np.uint16), np.arange(70_000, 70_003, dtype=np.uint32)
    joined, whole = ConcatenatedArrays(first, second), np.concatenate([first, second])
    for places in (np.array([7, 0, 5, 4, 5]), np.array([], np.int64), slice(3, 6), slice(None)):
        found = joined[places]
        np.testing.assert_array_equal(found, whole[places])
        assert found.dtype == whole.dtype
    assert len(joined) == len(whole)


@pytest.mark.parametrize("tokenizer", ["basic_english", "torchtext", "char"])
def test_the_vocabulary_has_the_tokens_of_unlabelled_texts(load, tmp_path, tokenizer):
    if tokenizer == "torchtext":
        pytest.importorskip("torchtext", reason="needs torchtext")
    (tmp_path / "test.csv").write_text("text,label\nqoph film,good\n")
    (tmp_path / "more.txt").write_text("zyzzyva zyzzyva\nqoph film\n")
    options = {"tokenizer": tokenizer, "test_path": str(tmp_path / "test.csv")}
    plain = load(**options).text_encoder.vocabulary.state()
    options["unlabelled"] = str(tmp_path / "more.txt")
    more = load(**options).text_encoder.vocabulary.state()
    new = set("zyv") if tokenizer == "char" else {"zyzzyva"}  # no token of the test text
    assert set(more) == set(plain) | new
    assert more[: len(plain)] == plain  # those of labelled texts come first
    few = load(**options, max_vocab_size=len(plain)).text_encoder.vocabulary.state()
    assert few == plain


def test_subwords_are_learned_from_unlabelled_texts_too(load, tmp_path):
    (tmp_path / "more.txt").write_text("zyzzyva zyzzyva zyzzyva\n" * 50)
    options = {"tokenizer": "bpe", "max_vocab_size": 400}
    plain = load(**options).text_encoder.encode("zyzzyva")
    more = load(unlabelled=str(tmp_path / "more.txt"), **options).text_encoder.encode("zyzzyva")
    assert len(more) < len(plain)


def test_unlabelled_files_may_have_another_column_of_texts(load, tmp_path):
    plain = {"text_column": "text", "label_column": "label", "columns": None}
    more = tmp_path / "more.csv"
    rows = [f"{row},a film of {row} hours,with actors" for row in range(5)]
    more.write_text("\n".join(["number,title,body", *rows]))
    with pytest.raises(
        DataError, match=r"no column 'text'; set data\.unlabelled_text_column to one"
    ):
        _ = load(unlabelled=str(more), **plain).pretraining_texts
    for column, words in (
        ("body", "with actors"),
        (["title", "body"], "a film of 4 hours with actors"),
    ):
        data = load(unlabelled=str(more), unlabelled_text_column=column, **plain)
        assert data.pretraining_texts.about["unlabelled"] == 5
        (ids,) = data.text_encoder.vocabulary.encode_all([words])
        assert data.pretraining_texts.split[-1].tolist() == list(ids)
    with pytest.raises(ConfigError, match=r"column of the files of data\.unlabelled, which has"):
        validate(FilesConfig, {"source": "files", "unlabelled_text_column": "body"})
    with pytest.raises(DataError, match="is a folder; give a file or a list of files"):
        _ = load(unlabelled=str(tmp_path)).pretraining_texts
