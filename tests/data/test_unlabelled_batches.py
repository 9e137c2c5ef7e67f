"""Unlabelled texts in training batches: which ones, how they are encoded, and what is left out."""

from pathlib import Path

import numpy as np
import pytest

from rnn_lab.data.batches import Batch
from rnn_lab.data.config import FilesConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.training.config import RunConfig
from rnn_lab.validation import validate
from tests.data.made import random_texts
from tests.training.small_trainer import OPTIONS


@pytest.fixture
def load(tmp_path: Path):
    rows = [
        f"{text or 'word1'},{'good' if i % 2 else 'bad'}" for i, text in enumerate(random_texts(90))
    ]
    (tmp_path / "mine.csv").write_text("text,label\n" + "\n".join(rows))

    def load_data(texts: list[str] | None, train_unlabelled=True, **options) -> TextDataModule:
        if texts is not None:
            (tmp_path / "more.txt").write_text("\n".join(texts))
            options["unlabelled"] = str(tmp_path / "more.txt")
        config = FilesConfig(
            train_path=str(tmp_path / "mine.csv"),
            cache_dir=str(tmp_path / "cache"),
            batch_size=8,
            **options,
        )
        data = TextDataModule(config, train_unlabelled=train_unlabelled)
        data.setup()
        return data

    return load_data


MORE = ["zebra word2 word3", "word1 word2 word3 word4 word5 word6 word7", "zebra", "word5 word6"]


def test_batches_have_the_unlabelled_texts_as_the_vocabulary_encodes_them(load):
    cut = {"max_length": 5, "truncation_side": "right"}
    data = load(MORE, unlabelled_batch_size=3, **cut)
    encoded = {tuple(ids.tolist()) for ids in data.text_encoder.encode_all(MORE)}
    seen = []
    batches = list(data.train_dataloader())
    assert len(batches) == data.num_batches("train")
    for batch in batches:
        tokens, lengths = batch.unlabelled
        assert tokens.shape == (len(lengths), lengths.max()) and len(lengths) in (1, 3)
        seen += [tuple(row[:n].tolist()) for row, n in zip(tokens, lengths, strict=True)]
        assert all(not row[n:].any() for row, n in zip(tokens, lengths, strict=True))
    assert set(seen) == encoded
    plain = list(load(None, **cut).train_dataloader())
    for batch, other in zip(batches, plain, strict=True):
        assert batch.indices.tolist() == other.indices.tolist()
        assert isinstance(other, Batch)


def test_batches_of_unlabelled_texts_are_as_large_as_the_labelled_ones(load):
    many = random_texts(80, seed=1)
    sizes = {len(batch.unlabelled.lengths) for batch in load(many).train_dataloader()}
    assert max(sizes) == 8
    limited = load(many, max_tokens_per_batch=100)
    sizes = [batch.unlabelled.tokens.numel() for batch in limited.train_dataloader()]
    assert max(sizes) <= 100


def test_texts_of_validation_and_test_are_left_out_and_counted(load):
    plain = load(None)
    tested, validated = plain.corpus.test.texts[1], plain.texts_of("validation")[0][0]
    trained = plain.texts_of("train")[0][0]
    data = load([*MORE, tested, f"{validated.upper()} ", trained])
    assert data.unlabelled.num_held_out == 2
    assert len(data.unlabelled.texts) == len(MORE) + 1
    ids = data.text_encoder.encode_all([*MORE, trained])
    for row, expected in enumerate(ids):
        np.testing.assert_array_equal(data.unlabelled.texts[row], expected[-10_000:])
    assert load([*MORE, trained]).unlabelled.fingerprint == data.unlabelled.fingerprint
    assert load(MORE).unlabelled.fingerprint != data.unlabelled.fingerprint
    with pytest.raises(DataError, match=r"data\.unlabelled: has no text that is not in validation"):
        load([tested]).train_dataloader()


def test_they_are_encoded_once(load, tmp_path, monkeypatch):
    fingerprint = load(MORE).unlabelled.fingerprint
    monkeypatch.setattr("rnn_lab.data.unlabelled._encode", None)
    again = load(None, unlabelled=str(tmp_path / "more.txt"))
    assert again.unlabelled.fingerprint == fingerprint


def test_they_are_not_read_unless_training_uses_them(load):
    data = load(None, train_unlabelled=False, unlabelled="nowhere.txt")
    assert data.unlabelled is None
    with pytest.raises(DataError, match=r"nowhere\.txt: no such file"):
        load(None, unlabelled="nowhere.txt").train_dataloader()


@pytest.mark.parametrize(
    ("data", "loss", "message"),
    [
        (
            {"unlabelled": "a.txt"},
            {},
            "data.unlabelled: needs data.vectors=skipgram, data.teacher=<run>, "
            "objective=language_model, or a weight",
        ),
        (
            {"unlabelled": "a.txt"},
            {"adversarial": 1.0},
            "of loss.virtual_adversarial, loss.entropy",
        ),
        (
            {"unlabelled": "a.txt", "vectors": "a.vec"},
            {},
            "data.unlabelled: needs data.vectors=skip",
        ),
        (
            {"unlabelled": "a.txt", "vectors": "skipgram", "unlabelled_batch_size": 8},
            {},
            "data.unlabelled_batch_size: needs a weight above 0 of loss.virtual_adversarial",
        ),
        (
            {"unlabelled_batch_size": 8},
            {"entropy": 1.0},
            "batches of data.unlabelled, which is null",
        ),
        ({}, {"entropy": -1.0}, "loss.entropy=-1.0: input should be greater than or equal to 0"),
        ({}, {"r_drop": float("inf")}, "loss.r_drop=inf"),
        ({}, {"epsilon": 0.0}, "loss.epsilon=0.0"),
        ({}, {"vat": 1.0}, "loss.vat: no such option. Choose from: adversarial, entropy, epsilon"),
    ],
)
def test_impossible_options_are_refused_in_one_line(data, loss, message):
    with pytest.raises(ConfigError) as refused:
        validate(RunConfig, OPTIONS | {"data": {"source": "demo"} | data, "loss": loss})
    (line,) = str(refused.value).splitlines()
    assert message in line


@pytest.mark.parametrize("loss", ["virtual_adversarial", "entropy", "r_drop"])
def test_losses_without_labels_read_unlabelled_texts(loss):
    data = {"source": "demo", "unlabelled": "a.txt", "unlabelled_batch_size": 8}
    config = validate(RunConfig, OPTIONS | {"data": data, "loss": {loss: 0.1}})
    assert config.loss.needs_no_labels
