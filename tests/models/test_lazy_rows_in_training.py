"""Runs with lazy updates of the embedding under real Trainers, compared with dense runs."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
)
from lightning.pytorch.strategies import DDPStrategy

from rnn_lab.errors import ConfigError
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.optimizers import LAZY_MIN_VOCAB
from rnn_lab.training.callbacks.monitors import GradNormMonitor
from tests.models.test_lightning_module import (
    StatefulLoader,
    batches,
    build,
    loader,
    trainer,
    which_comes_first,
)

TRAIN, HELD_OUT = (batches(which_comes_first(n, seed=n), 4) for n in (48, 24))


class Figures(Callback):
    """Keeps what a run has logged: the gradient's norm at each step, the loss of validation."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if "grad_norm" in trainer.logged_metrics:  # once a step has been made
            self.norms.append(float(trainer.logged_metrics["grad_norm"]))

    def on_validation_end(self, trainer, module) -> None:
        self.losses.append(float(trainer.callback_metrics["val/loss"]))


def module(sparse: bool | str, **optimizer) -> TextClassifier:
    L.seed_everything(1)
    return build(
        model={"word_dropout": 0.3, "pooling": "max"},
        optimizer={"sparse_embedding": sparse} | optimizer,
        scheduler={"name": "cosine"},
    )


def fit(sparse: bool, optimizer=None, **options) -> tuple[TextClassifier, Figures]:
    model, metrics = module(sparse, **(optimizer or {})), Figures()
    run = trainer(
        **{"max_epochs": 2, "log_every_n_steps": 1, "num_sanity_val_steps": 0} | options,
        callbacks=[GradNormMonitor(), metrics],
    )
    run.fit(model, loader(TRAIN), loader(HELD_OUT))
    assert model.uses_sparse_embedding is sparse
    return model, metrics


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ({}, {"gradient_clip_val": 0.05, "val_check_interval": 5}),
        ({}, {"gradient_clip_val": 0.05, "accumulate_grad_batches": 3}),
        ({"name": "adam", "weight_decay": 0.1}, {}),
        ({"name": "sgd", "momentum": 0.9}, {"gradient_clip_val": 0.05}),
        ({}, {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}),
        ({"vectors_lr_factor": 0.25}, {"gradient_clip_val": 0.05}),
        ({"name": "sgd", "momentum": 0.9, "vectors_lr_factor": 0.0}, {}),
    ],
)
def test_lazy_run_equals_the_run_with_dense_gradients(optimizer, options):
    options = {"precision": "64-true"} | options  # in which rounding is too small to matter
    (rows, of_rows), (dense, of_dense) = (fit(g, optimizer, **options) for g in (True, False))
    for name, expected in dense.named_parameters():
        # The weights as they lie there, though the last step had no validation after it.
        found = rows.get_parameter(name)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, msg=name)
    assert of_rows.losses == pytest.approx(of_dense.losses, abs=1e-6)
    assert of_rows.norms == pytest.approx(of_dense.norms, rel=1e-4)
    assert len(of_rows.norms) >= 22 and min(of_rows.norms) > 0.05
    assert rows.classifier.embedding.weight[0].abs().max() == 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lazy_run_learns_what_a_dense_one_does(precision):
    losses = [fit(g, precision=precision, max_epochs=3)[1].losses for g in (True, False)]
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)


def test_resumed_lazy_run_ends_as_an_uninterrupted_one(tmp_path: Path):
    def train(folder: str, **options) -> TextClassifier:
        model = module(True)
        keep = ModelCheckpoint(
            tmp_path / folder, filename="{step}", every_n_train_steps=7, save_top_k=-1
        )
        run = trainer(max_epochs=1, callbacks=[keep], enable_checkpointing=True)
        model.classifier.word_dropout = 0.0  # its random numbers are not part of a checkpoint
        model.classifier.dropout.p = 0.0
        run.fit(model, StatefulLoader(TRAIN), **options)
        return model

    whole = train("whole")
    saved = torch.load(tmp_path / "whole/step=7.ckpt", weights_only=True)
    resumed = train("resumed", ckpt_path=tmp_path / "whole/step=7.ckpt", weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    weight = "classifier.embedding.weight"
    assert not torch.equal(saved["state_dict"][weight], whole.state_dict()[weight])


def test_by_itself_from_a_large_vocabulary_on():
    for vocab_size, sparse in ((LAZY_MIN_VOCAB, True), (LAZY_MIN_VOCAB - 1, False)):
        model = module("auto")
        model.hparams["vocab_size"] = vocab_size
        trainer(max_steps=1).fit(model, loader(TRAIN))
        assert model.uses_sparse_embedding is sparse


@pytest.mark.parametrize(
    "options",
    [
        {"callbacks": [EMAWeightAveraging()]},
        {"callbacks": [StochasticWeightAveraging(1e-2, 1)]},
        {"callbacks": [ModelPruning("l1_unstructured", amount=0.1)]},
        {"strategy": DDPStrategy(process_group_backend="gloo")},
    ],
    ids=["ema", "swa", "pruning", "ddp"],
)
def test_what_needs_all_rows_has_them_at_each_step(options):
    model = module("auto")
    model.hparams["vocab_size"] = LAZY_MIN_VOCAB
    try:
        trainer(max_epochs=2, devices=1, **options).fit(model, loader(TRAIN))
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    assert model.uses_sparse_embedding is False


def test_where_rows_cannot_be_a_run_says_so_before_it_trains():
    with pytest.raises(ConfigError, match="sparse_embedding=true"):
        trainer(max_steps=1, precision="bf16-true").fit(module(True), loader(TRAIN))
