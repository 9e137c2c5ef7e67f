"""A non-finite loss, gradient, weight or validation loss, in a real Trainer."""

import json

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from rnn_lab.training.callbacks.monitors import ValidationHistory
from rnn_lab.training.callbacks.nonfinite import (
    NonFiniteError,
    NonFiniteGuard,
)
from rnn_lab.training.checkpoint_io import read_checkpoint
from rnn_lab.training.rollback import RollbackRequestedError, read_rollbacks
from rnn_lab.training.trainer import find_callback
from tests.cli.forked import run_warm_command
from tests.training.callbacks.test_monitors import batches, model  # noqa: F401
from tests.training.small_trainer import small_trainer


class SpoilEmbedding(L.Callback):
    """Make the vector of one word infinite, in the batch of some number."""

    def __init__(self, at: int, word: int) -> None:
        self.at, self.word = at, word

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if batch_idx == self.at:
            with torch.no_grad():
                module.classifier.embedding.weight[self.word] = torch.inf


def word_of(loader, number: int) -> int:
    return int(list(loader)[number].tokens[0, 0])


def test_non_finite_loss_stops_the_step_and_saves_the_batch(tmp_path, model):  # noqa: F811
    train = batches(6)
    spoil = SpoilEmbedding(3, word_of(train, 3))
    trainer = small_trainer(tmp_path, spoil, checkpoint_every_n_steps=2, max_epochs=2)
    with pytest.raises(NonFiniteError, match=r"the loss .* step 3 \(epoch 0, batch 3\)") as error:
        trainer.fit(model, train, batches(2))
    assert "\n" not in str(error.value)
    assert trainer.global_step == 4
    kept = (tmp_path / "nonfinite" / "step3.jsonl").read_text().splitlines()
    batch = list(train)[3]
    assert [json.loads(line)["row"] for line in kept] == batch.indices.tolist()
    assert [json.loads(line)["tokens"] for line in kept] == batch.tokens.tolist()
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 2
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())


def test_one_of_several_accumulated_batches_is_named(tmp_path, model):  # noqa: F811
    train = batches(6)
    tokens = list(train)[1].tokens
    tokens[0, 0] = 19  # a word of one batch alone
    loader = [b._replace(tokens=torch.where(b.tokens == 19, 2, b.tokens)) if i != 1 else b
              for i, b in enumerate(train)]  # fmt: skip
    trainer = small_trainer(
        tmp_path, SpoilEmbedding(0, 19), accumulate_grad_batches=3, max_epochs=2
    )
    with pytest.raises(NonFiniteError, match=r"step 0 \(epoch 0, batch 1\).* those of the start"):
        trainer.fit(model, torch.utils.data.DataLoader(loader, batch_size=None), batches(2))


class SpoilGradient(L.Callback):
    """Make a gradient infinite, as an overflow does."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        if trainer.global_step in self.steps:
            module.classifier.linear.bias.grad[0] = torch.inf


@pytest.mark.parametrize("clipped", [1.0, None], ids=["clipped", "not clipped"])
def test_non_finite_gradient_stops(tmp_path, model, clipped):  # noqa: F811
    trainer = small_trainer(tmp_path, SpoilGradient(2), gradient_clip_val=clipped, max_epochs=2)
    with pytest.raises(NonFiniteError, match=r"the gradient .* step 2"):
        trainer.fit(model, batches(4), batches(2))


class Overflow(L.Callback):
    """Make a gradient overflow float16, at one step."""

    def on_after_backward(self, trainer, module) -> None:
        if trainer.global_step == 2:
            module.classifier.linear.bias.grad[0] = torch.inf


@pytest.mark.parametrize("scale", [65536.0, 1.0], ids=["scaled", "scale used up"])
def test_overflow_is_an_error_when_the_loss_scale_is_used_up(tmp_path, model, scale):  # noqa: F811
    trainer = small_trainer(tmp_path, Overflow(), max_epochs=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    # Lightning refuses float16 on a CPU; torch's autocast and scaler support it.
    trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", scaler)
    if scale > 1:
        trainer.fit(model, batches(4), batches(2))
        assert scaler.get_scale() == scale / 2  # it did overflow
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    else:
        with pytest.raises(NonFiniteError, match=r"the gradient .* step 2"):
            trainer.fit(model, batches(4), batches(2))


class SpoilWeight(L.Callback):
    """Make a weight NaN, after the last step of an epoch."""

    def __init__(self, when: str) -> None:
        self.when = when

    def _spoil(self, module) -> None:
        with torch.no_grad():
            module.classifier.embedding.weight[19] = torch.nan

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if self.when == "validation" and batch_idx == 3:
            self._spoil(module)

    def on_validation_end(self, trainer, module) -> None:
        if self.when == "saving":
            self._spoil(module)


@pytest.mark.parametrize(
    ("when", "what"), [("saving", "a weight"), ("validation", "the validation loss")]
)
def test_non_finite_weights_are_not_saved(tmp_path, model, when, what):  # noqa: F811
    """Neither as best.ckpt nor as last.ckpt."""
    trainer = small_trainer(tmp_path, SpoilWeight(when), max_epochs=1)
    with pytest.raises(NonFiniteError, match=what):
        trainer.fit(model, batches(4), batches(6))
    assert not list((tmp_path / "checkpoints").glob("*"))


class SpoilSanityCheck(L.Callback):
    """Let the sanity check have a weight that is NaN."""

    def on_sanity_check_start(self, trainer, module) -> None:
        self.weight = module.classifier.linear.bias.detach().clone()
        module.classifier.linear.bias.data.fill_(torch.nan)

    def on_sanity_check_end(self, trainer, module) -> None:
        assert trainer.callback_metrics["val/loss"].isnan()
        module.classifier.linear.bias.data.copy_(self.weight)


def test_sanity_check_selects_no_epoch(tmp_path, model, caplog):  # noqa: F811
    options = {"num_sanity_val_steps": 1, "monitor": "val/loss", "max_epochs": 1}
    trainer = small_trainer(tmp_path, SpoilSanityCheck(), **options)
    trainer.fit(model, batches(4), batches(2))
    assert "nan" not in caplog.text
    assert [*find_callback(trainer, ValidationHistory).by_step] == [4]


def test_rollbacks_are_recorded_and_limited(tmp_path, model):  # noqa: F811
    train = batches(4)
    options = {"on_nonfinite": "rollback", "max_rollbacks": 1, "max_epochs": 2}
    trainer = small_trainer(tmp_path, SpoilGradient(2), **options)
    with pytest.raises(RollbackRequestedError):
        trainer.fit(model, train, batches(2))
    whole_lrs = trainer.lr_scheduler_configs[0].scheduler.base_lrs
    (rollback,) = read_rollbacks(tmp_path)
    assert (rollback.step, rollback.epoch, rollback.batches, rollback.to_step) == (2, 0, (2,), 0)
    again = small_trainer(tmp_path, SpoilGradient(1), rollbacks=(rollback,), **options)
    assert find_callback(again, NonFiniteGuard) is again.callbacks[0]
    with pytest.raises(NonFiniteError, match="was rolled back 1 times"):
        again.fit(model, train, batches(2))
    assert again.lr_scheduler_configs[0].scheduler.base_lrs == [0.5 * lr for lr in whole_lrs]


def test_fast_dev_run_is_rolled_back_no_more_often_than_it_may(tmp_path):
    done = run_warm_command(
        "train.py",
        *("data=demo", "data.num_train=200", "data.num_test=20", "data.batch_size=16"),
        *("model.hidden_size=4", "model.embedding_dim=4", "scheduler=constant", "logger=none"),
        *("optimizer=sgd", "optimizer.lr=1e38", "trainer=cpu", "trainer.fast_dev_run=5"),
        *("trainer.on_nonfinite=rollback", "trainer.max_rollbacks=1", "hydra.run.dir=run"),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "It was rolled back 1 times (trainer.max_rollbacks)" in done.stderr
    assert not (tmp_path / "run" / "rollbacks.json").exists()  # a later run would read it


@pytest.mark.slow
def test_killed_run_with_rollback_ends_bit_by_bit(tmp_path):
    """Stopped and then rolled back, or killed after the rollback, or neither: one result."""
    done = run_warm_command("tests/training/poisoned.py", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["statuses"] == {"whole": [0], "stopped": [1, 0], "killed": [-9, 0]}
    assert found["differences"] == {"stopped": [], "killed": []}
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    (rollback,) = result["rollbacks"]
    assert rollback["epoch"] == 1
    kept = (6, 10)  # the start of that epoch, and every fifth step
    assert rollback["to_step"] == max(step for step in kept if step < rollback["step"])
    reviews = (tmp_path / "whole" / "nonfinite" / f"step{rollback['step']}.jsonl").read_text()
    assert any(json.loads(line)["row"] == 7 for line in reviews.splitlines())
    assert all(json.loads(line)["text"] for line in reviews.splitlines())
