import json
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import Tensor

from rnn_lab.data.batches import Batch
from rnn_lab.data.config import AutoConfig, DemoConfig, FilesConfig
from rnn_lab.data.datamodule import RunEncoding, TextDataModule
from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.vocabulary import WordTokenizer
from rnn_lab.errors import CheckpointError, DataError
from tests.cli.forked import run_warm_command
from tests.data.made import random_texts


@pytest.fixture
def demo(tmp_path: Path) -> Callable[..., DemoConfig]:
    def make(**options) -> DemoConfig:
        sizes = {"num_train": 200, "num_test": 60, "batch_size": 16}
        return DemoConfig(cache_dir=str(tmp_path / "cache"), **sizes | options)

    return make


def set_up(config, **arguments) -> TextDataModule:
    data = TextDataModule(config, **arguments)
    data.prepare_data()
    data.setup("fit")
    return data


class Recorder(L.LightningModule):
    """Record which texts each step receives, per epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[int]]] = {"train": [], "validation": [], "test": []}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        self.seen["train"][-1].extend(batch.indices.tolist())
        return self.weight * batch.lengths.float().mean()

    def validation_step(self, batch: Batch, _: int) -> None:
        self.seen["validation"][-1].extend(batch.indices.tolist())

    def test_step(self, batch: Batch, _: int) -> None:
        self.seen["test"][-1].extend(batch.indices.tolist())

    def on_train_epoch_start(self) -> None:
        self.seen["train"].append([])

    def on_validation_epoch_start(self) -> None:
        self.seen["validation"].append([])

    def on_test_epoch_start(self) -> None:
        self.seen["test"].append([])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(folder: Path, **options) -> L.Trainer:
    return L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def test_splits_contain_every_text_once_as_its_own_ids(demo) -> None:
    data = set_up(demo())
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 180,
        "validation": 20,
        "test": 60,
    }
    assert data.class_names == data.corpus.class_names
    assert data.num_classes == 2
    assert data.vocab_size == data.text_encoder.vocab_size
    for batch in data.test_dataloader():
        for row in range(len(batch.indices)):
            text = data.corpus.test.texts[batch.indices[row]]
            ids = batch.tokens[row, : batch.lengths[row]]
            assert ids.tolist() == data.text_encoder.encode(text).tolist()
            assert batch.labels[row] == data.corpus.test.labels[batch.indices[row]]


def test_the_vocabulary_has_no_word_of_validation_only(tmp_path: Path) -> None:
    rows = [{"text": f"film word{i}", "label": "good" if i % 2 else "bad"} for i in range(40)]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = FilesConfig(
        train_path=str(tmp_path / "reviews.jsonl"), cache_dir=str(tmp_path / "cache")
    )
    data = set_up(config)
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sum(sizes.values()) == 40
    assert data.vocab_size == 3 + sizes["train"]  # <pad>, <unk>, film, and one word per text
    for name in ("validation", "test"):
        for batch in data.dataloader_for(name):
            assert set(batch.tokens[:, 1].tolist()) == {1}


def test_every_epoch_has_every_text_once_in_a_new_order(demo, tmp_path: Path) -> None:
    seen = {}
    for seed in (0, 0, 1):
        torch.manual_seed(len(seen))
        model, trainer = Recorder(), make_trainer(tmp_path, max_epochs=3)
        data = TextDataModule(demo(), seed=seed)
        trainer.fit(model, datamodule=data)
        trainer.test(model, datamodule=data, verbose=False)
        for epoch in model.seen["train"]:
            assert sorted(epoch) == list(range(180))
        assert len({tuple(epoch) for epoch in model.seen["train"]}) == 3
        assert [sorted(epoch) for epoch in model.seen["validation"]] == [list(range(20))] * 3
        assert [sorted(epoch) for epoch in model.seen["test"]] == [list(range(60))]
        assert seen.setdefault(seed, model.seen) == model.seen
    assert seen[0]["train"] != seen[1]["train"]
    assert seen[0]["validation"] == seen[1]["validation"]


def test_a_resumed_run_continues_with_the_order_of_the_next_epoch(demo, tmp_path: Path) -> None:
    whole = Recorder()
    make_trainer(tmp_path, max_epochs=3).fit(whole, datamodule=TextDataModule(demo()))
    first = make_trainer(tmp_path, max_epochs=1)
    first.fit(Recorder(), datamodule=TextDataModule(demo()))
    first.save_checkpoint(tmp_path / "first.ckpt")
    resumed = Recorder()
    make_trainer(tmp_path, max_epochs=3).fit(
        resumed, datamodule=TextDataModule(demo()), ckpt_path=tmp_path / "first.ckpt"
    )
    assert resumed.seen["train"] == whole.seen["train"][1:]


def test_two_ranks_share_the_texts(tmp_path: Path) -> None:
    done = run_warm_command("tests/data/two_ranks.py", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sizes = {"train": 180, "validation": 20, "test": 61}
    for stage, splits in (("fit", ("train", "validation")), ("test", ("test",))):
        ranks = [json.loads((tmp_path / f"{stage}{rank}.json").read_text()) for rank in (0, 1)]
        for split in splits:
            for ours, theirs in zip(*(seen[split] for seen in ranks), strict=True):
                assert sorted(ours + theirs) == list(range(sizes[split]))
                assert abs(len(ours) - len(theirs)) <= sizes[split] / 16 + 1
        assert len(ranks[0][splits[0]]) == (2 if stage == "fit" else 1)


def test_the_trainer_does_not_warn_about_the_loaders(demo, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message="The `srun` command is available")
        trainer = make_trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
        trainer.fit(Recorder(), datamodule=TextDataModule(demo()))


def test_workers_do_not_change_the_batches(demo) -> None:
    alone, helped = set_up(demo()), set_up(demo(num_workers=2))
    for ours, theirs in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("tokenizer", ["basic_english", "bpe", "char", "byte"])
def test_a_checkpoint_contains_what_prediction_needs(demo, tmp_path, tokenizer) -> None:
    data = TextDataModule(demo(tokenizer=tokenizer, max_vocab_size=400))
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(Recorder(), datamodule=data)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    checkpoint = torch.load(tmp_path / "run.ckpt", weights_only=True)
    state = checkpoint["TextDataModule"]
    assert state["class_names"] == list(data.class_names)
    assert DemoConfig(**state["config"]) == data.config
    encoder = TextEncoder.from_state_dict(state["text_encoder"])
    for text in data.corpus.test.texts:
        assert encoder.encode(text).tolist() == data.text_encoder.encode(text).tolist()


def test_a_checkpoint_of_another_vocabulary_or_other_classes_is_refused(demo) -> None:
    data, other = set_up(demo()), set_up(demo(max_vocab_size=20))
    data.load_state_dict(data.state_dict())
    with pytest.raises(CheckpointError, match="another vocabulary"):
        data.load_state_dict(other.state_dict())
    with pytest.raises(CheckpointError, match="classes are dull, grand"):
        data.load_state_dict(data.state_dict() | {"class_names": ["dull", "grand"]})


def test_a_state_loaded_before_set_up_is_used(demo) -> None:
    trained, fresh = set_up(demo(max_vocab_size=20)), TextDataModule(demo())
    fresh.load_state_dict(trained.state_dict())
    fresh.setup("test")
    assert fresh.text_encoder.fingerprint == trained.text_encoder.fingerprint


def test_a_finished_run_encodes_other_texts_with_its_own_vocabulary_and_classes(tmp_path) -> None:
    words = WordTokenizer(["<pad>", "<unk>", "film", "good"])
    encoder = TextEncoder(words, max_length=2, truncation_side="left")
    texts = tmp_path / "reviews.csv"
    lines = [f'"a good film","{"grand" if i % 2 else "dull"}"\n' for i in range(40)]
    texts.write_text("text,label\n" + "".join(lines))
    config = FilesConfig(train_path=str(texts), cache_dir=str(tmp_path / "cache"), max_length=100)
    data = set_up(config, encoding=RunEncoding(encoder, ("middling", "grand", "dull")))
    assert data.corpus.class_names == ("dull", "grand")
    assert data.class_names == ("middling", "grand", "dull")
    assert data.vocab_size == 4
    batch = next(iter(data.dataloader_for("test")))
    assert {tuple(row) for row in batch.tokens.tolist()} == {(3, 2)}
    names = [data.class_names[label] for label in batch.labels]
    assert names == [data.corpus.class_names[data.corpus.test.labels[i]] for i in batch.indices]
    with pytest.raises(DataError, match=r"unknown label 'grand'; .* run are: dull, fair"):
        set_up(config, encoding=RunEncoding(encoder, ("dull", "fair")))


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "good film,1\nbad film,0\n" * 20)
    data = set_up(FilesConfig(train_path=str(path), cache_dir=str(tmp_path / "cache")))
    with pytest.raises(DataError, match="has no split exam; choose from: train, "):
        data.dataloader_for("exam")


def test_texts_stay_on_disk(demo) -> None:
    data = set_up(demo())
    assert {type(split.ids.base) for split in data.splits.values()} == {np.memmap}
    assert data.splits["train"].ids.base is data.splits["validation"].ids.base


def test_set_up_is_done_once(demo) -> None:
    data = set_up(demo())
    splits = data.splits
    data.setup("validate")
    data.setup("test")
    assert data.splits is splits


def test_auto_falls_back_only_if_allowed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    nowhere = {"root": str(tmp_path), "download": False, "cache_dir": str(tmp_path / "cache")}
    config = AutoConfig(**nowhere)
    with pytest.raises(DataError):
        TextDataModule(config).setup()
    data = TextDataModule(config, allow_fallback=True)
    data.setup()
    assert data.corpus.synthetic
    found = DemoConfig(**data.state_dict()["config"])  # a checkpoint names what `auto` found
    again = TextDataModule(found)
    again.setup()
    assert again.corpus.fingerprint == data.state_dict()["corpus_fingerprint"]


def test_half_a_surrogate_pair_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(random_texts(40))]
    rows[3]["text"] = "half \ud83d a pair"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = FilesConfig(
        train_path=str(path), cache_dir=str(tmp_path / "cache"), on_bad_lines="skip"
    )
    assert sum(map(len, set_up(config).splits.values())) >= 39


@pytest.mark.parametrize("argument", ["vocabulary", "base_vocabulary"])
def test_auto_is_the_tokenizer_of_the_run_that_is_resumed_or_started_from(demo, argument) -> None:
    known = set_up(demo(tokenizer="char")).text_encoder.vocabulary
    found = set_up(demo(tokenizer="auto"), **{argument: known})
    assert found.config.tokenizer == "char"
    assert found.text_encoder.vocabulary.tokens == known.tokens
