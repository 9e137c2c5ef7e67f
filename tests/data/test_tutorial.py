"""The data pipeline of the tutorial, corrected, against the batches of experiment=tutorial."""

import csv
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.splits import split_validation
from tests.data.made import random_texts
from tests.data.torchtext_answers import (
    WORD_VOCABULARIES,
    basic_english_of_torchtext,
    order_of_torchtext,
)
from tests.test_conf import composed


def collate(reviews: list[tuple[str, str]], vocabulary: dict[str, int]):
    """A batch of (label, text): labels [batch], tokens [batch, time] padded, lengths [batch]."""
    texts, labels = [], []
    for label, text in reviews:
        labels.append(1 if label == "pos" else 0)
        words = basic_english_of_torchtext(text)[:256]
        texts.append(torch.tensor([vocabulary.get(word, vocabulary["<unk>"]) for word in words]))
    padded = pad_sequence(texts, batch_first=True, padding_value=vocabulary["<pad>"])
    return torch.tensor(labels), padded, torch.tensor([len(text) for text in texts])


@pytest.mark.parametrize("kind", WORD_VOCABULARIES)
def test_batches_are_those_of_the_tutorial(tmp_path: Path, kind) -> None:
    texts = [f"It's review {i}: {text}!" for i, text in enumerate(random_texts(160))]
    texts[5] = texts[105] = " ".join(f"word{i % 300}" for i in range(400))  # is cut
    rows = [("pos" if i % 3 else "neg", text) for i, text in enumerate(texts)]
    train, test = rows[:100], rows[100:]
    for name, split in (("train", train), ("test", test)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("label", "text"), *split])
    config = composed(
        "experiment=tutorial",
        "data=files",
        f"data.train_path={tmp_path}/train.csv",
        f"data.test_path={tmp_path}/test.csv",
        f"data.cache_dir={tmp_path}/cache",
        f"data.tokenizer={kind.name}",
    )
    data = TextDataModule(config.data, seed=config.seed)
    data.setup()
    assert isinstance(data.text_encoder.vocabulary, kind)
    assert data.class_names == ("neg", "pos")

    train_rows, validation_rows = split_validation(data.corpus, config.data)
    assert (len(train_rows), len(validation_rows)) == (90, 10)
    trained = [train[i] for i in train_rows]
    order = order_of_torchtext([basic_english_of_torchtext(text) for _, text in trained])
    vocabulary = {word: number for number, word in enumerate(order)}
    for rows, batches in ((trained, data.train_dataloader()), (test, data.test_dataloader())):
        seen = []
        for batch in batches:
            seen += batch.indices.tolist()
            labels, tokens, lengths = collate([rows[i] for i in batch.indices], vocabulary)
            assert torch.equal(batch.labels, labels)
            assert torch.equal(batch.tokens, tokens)
            assert torch.equal(batch.lengths, lengths)
        assert sorted(seen) == list(range(len(rows)))
