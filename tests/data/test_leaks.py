"""Held-out texts do not influence the vocabulary or the training."""

import csv
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from rnn_lab.data.batches import Batch
from rnn_lab.data.config import FilesConfig, TextOptions
from rnn_lab.data.datamodule import RunEncoding, TextDataModule
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.vocabulary import SPECIALS, UNK_ID, WordTokenizer
from rnn_lab.models.lightning_module import TextClassifier

SPLITS = ("train", "validation", "test")
PATH_OPTIONS = {"train": "train_path", "validation": "val_path", "test": "test_path"}


def write(path: Path, reviews: list[tuple[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *reviews])
    return str(path)


def planted(split: str, number: int = 40) -> list[tuple[str, str]]:
    """Texts that each contain a word which is unique and names their split."""
    return [(f"the film {split}{i}x was fine", "ab"[i % 2]) for i in range(number)]


def given(tmp_path: Path, name: str = "", **options) -> FilesConfig:
    """Write a file for each split, with the texts of `options` or planted ones."""
    reviews = {split: options.pop(split, planted(split)) for split in SPLITS}
    paths = {
        PATH_OPTIONS[split]: write(tmp_path / f"{name}{split}.csv", reviews[split])
        for split in SPLITS
    }
    return FilesConfig(cache_dir=str(tmp_path / "cache"), batch_size=8, **paths, **options)


def cut(tmp_path: Path, **options) -> FilesConfig:
    """Write one file, from which validation and test are split off."""
    path = write(tmp_path / "all.csv", planted("any", 100))
    return FilesConfig(cache_dir=str(tmp_path / "cache"), batch_size=8, train_path=path, **options)


def set_up(config: TextOptions, **arguments) -> TextDataModule:
    data = TextDataModule(config, **arguments)
    data.setup()
    return data


def marks_of(data: TextDataModule, config: FilesConfig) -> dict[str, set[str]]:
    """Return the unique words of the texts of each split."""
    corpus, found = data.corpus, {}
    words = [word for text in corpus.train.texts for word in text.split() if word[-1] == "x"]
    for name in SPLITS:
        split = corpus.splits.get(name)
        if split is not None and name != "train":
            found[name] = {word for text in split.texts for word in text.split() if word[-1] == "x"}
    train_rows, validation_rows = data._texts.rows
    found["train"] = {words[row] for row in train_rows}
    found.setdefault("validation", {words[row] for row in validation_rows})
    return found


@pytest.mark.parametrize("tokenizer", ["basic_english", "bpe"])
@pytest.mark.parametrize("make", [given, cut], ids=["given", "cut"])
def test_a_word_of_held_out_texts_only_is_unknown(tmp_path, make, tokenizer):
    config = make(tmp_path, tokenizer=tokenizer, max_vocab_size=2_000)
    data = set_up(config)
    marks = marks_of(data, config)
    assert {name: len(words) for name, words in marks.items()} == {
        name: len(split) for name, split in data.splits.items()
    }
    for name, words in marks.items():
        for word in words:
            ids = data.text_encoder.encode(word)
            if tokenizer == "basic_english":
                assert (ids == UNK_ID).all() == (name != "train")
            elif name != "train" and make is given:
                # No training text has its pairs of letters: "va", "te", "id" and so on.
                assert len(ids) >= len(name)


def test_texts_that_are_not_drawn_are_used_nowhere(tmp_path):
    path = write(tmp_path / "all.csv", [(f"{text} rare rare", c) for text, c in planted("a", 200)])
    config = FilesConfig(
        cache_dir=str(tmp_path / "cache"), train_path=path, train_size=60, vectors="skipgram"
    )
    data = set_up(config)
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes == {"train": 54, "validation": 6, "test": 40}
    assert data.text_statistics["train"]["examples"] == 54
    used = {text for name in sizes for text in data.examples_of(name).texts}
    assert len(used) == 100
    known = [word for word in data.text_encoder.vocabulary.tokens if word[-1] == "x"]
    assert len(known) == 54
    assert {text.split()[2] for text in data.examples_of("train").texts} == set(known)
    assert data.word_vectors(4).about["texts"] == {"training": 54}
    # The same test split as of all texts.
    whole = set_up(config.model_copy(update={"train_size": None}))
    assert list(whole.examples_of("test").names) == list(data.examples_of("test").names)


class IdRecorder(L.LightningModule):
    """Record the ids that training and validation receive."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.ids: dict[str, set[int]] = {name: set() for name in SPLITS}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        self.ids["train"].update(batch.tokens.unique().tolist())
        return self.weight * batch.lengths.float().mean()

    def validation_step(self, batch: Batch, _: int) -> None:
        self.ids["validation"].update(batch.tokens.unique().tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(model: L.LightningModule, data: TextDataModule, folder: Path) -> None:
    L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        max_epochs=2,
    ).fit(model, datamodule=data)


@pytest.mark.parametrize("make", [given, cut], ids=["given", "cut"])
def test_training_receives_no_held_out_text_and_validation_no_other(tmp_path, make):
    config = make(tmp_path)
    first = set_up(config)
    every = {word for marks in marks_of(first, config).values() for word in marks}
    words = WordTokenizer([*SPECIALS, "the", "film", "was", "fine", *sorted(every)])
    data = set_up(config, encoding=RunEncoding(TextEncoder(words, 10, "left"), first.class_names))
    recorder = IdRecorder()
    fit(recorder, data, tmp_path)
    for name, marks in marks_of(data, config).items():
        ids = set(words.ids(marks).tolist())
        assert recorder.ids["train"] & ids == (ids if name == "train" else set())
        assert recorder.ids["validation"] & ids == (ids if name == "validation" else set())


def trained_weights(config: FilesConfig, folder: Path) -> dict[str, Tensor]:
    torch.manual_seed(0)
    data = set_up(config, seed=3)
    model = TextClassifier(
        {"name": "gru", "embedding_dim": 8, "hidden_size": 8, "dropout": 0.3},
        *(data.vocab_size, data.num_classes),
        {"name": "adamw", "lr": 0.01},
        {"name": "one_cycle"},
    )
    fit(model, data, folder)
    return model.state_dict()


@pytest.mark.parametrize("tokenizer", ["auto", "basic_english", "bpe", "char"])
def test_other_held_out_texts_do_not_change_any_weight(tmp_path, tokenizer):
    options = {"tokenizer": tokenizer, "max_vocab_size": 400}
    other = [(f"quite different {i} words <br /> and more of them", "b") for i in range(7)]
    before = trained_weights(given(tmp_path, "before", **options), tmp_path)
    for name, changed in (("test", {"test": other}), ("validation", {"validation": other})):
        after = trained_weights(given(tmp_path, name, **options, **changed), tmp_path)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    shifted = given(tmp_path, "shifted", **options, train=[*planted("train", 39), other[0]])
    after = trained_weights(shifted, tmp_path)  # a changed training text does change the weights
    assert not all(
        before[key].shape == after[key].shape and torch.equal(before[key], after[key])
        for key in before
    )
