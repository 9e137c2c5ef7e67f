"""The moving average of the weights in a real Trainer, against its recurrence in float64."""

import lightning as L
import pytest
import torch

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import ConfigError
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.training.callbacks.monitors import ValidationHistory
from rnn_lab.training.callbacks.weight_average import WeightAverage
from rnn_lab.training.checkpoint_io import read_checkpoint
from rnn_lab.training.config import RunConfig
from rnn_lab.training.initial_weights import InitialWeights
from rnn_lab.training.rollback import RollbackRequestedError
from rnn_lab.training.signals import Interrupted
from rnn_lab.training.start import Start
from rnn_lab.training.train import build_model
from rnn_lab.training.trainer import find_callback
from rnn_lab.validation import validate
from tests.training.callbacks.test_exact_checkpoint import (  # noqa: F401
    STEPS,
    StopInValidation,
    cache,
    outputs,
    train,
)
from tests.training.callbacks.test_monitors import batches
from tests.training.callbacks.test_nonfinite import SpoilEmbedding, word_of
from tests.training.killing import differences
from tests.training.small_trainer import OPTIONS, small_trainer


class Weights(L.Callback):
    """Record the weights at the start, after each step, and in validation."""

    def __init__(self) -> None:
        self.of_steps: list[dict[str, torch.Tensor]] = []
        self.validated: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer, module) -> None:
        self.of_steps.append(weights_of(module))

    def on_train_batch_end(self, trainer, module, *_) -> None:
        if trainer.global_step == len(self.of_steps):
            self.of_steps.append(weights_of(module))

    def on_validation_batch_start(self, trainer, module, *_) -> None:
        self.validated = weights_of(module)


def weights_of(module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def new_model():
    L.seed_everything(0, verbose=False)
    small = {"name": "gru", "embedding_dim": 4, "hidden_size": 4}
    return TextClassifier(small, 20, 2, {"name": "adamw", "lr": 0.1}, {"name": "one_cycle"})


def fit(folder, **options) -> tuple[L.Trainer, Weights]:
    folder.mkdir(exist_ok=True)
    seen = Weights()
    trainer = small_trainer(folder, seen, max_epochs=2, **options)
    trainer.fit(new_model(), batches(7), batches(2))
    return trainer, seen


@pytest.mark.parametrize(
    ("decay", "options"),
    [(0.7, {}), (0.999, {"accumulate_grad_batches": 3}), (0.7, {"precision": "bf16-mixed"})],
)
def test_average_follows_its_recurrence(tmp_path, decay, options):
    trainer, seen = fit(tmp_path, ema_decay=decay, **options)
    average = {name: weight.double() for name, weight in seen.of_steps[0].items()}
    for step, weights in enumerate(seen.of_steps[1:]):
        share = min(decay, (1 + step) / (10 + step))
        average = {
            name: share * average[name] + (1 - share) * weights[name].double() for name in average
        }
    assert len(seen.of_steps) == 1 + trainer.global_step
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    trained = last["callbacks"]["WeightAverage"]["trained"]
    for name, expected in average.items():
        assert seen.validated[name].dtype == torch.float32
        torch.testing.assert_close(seen.validated[name].double(), expected, rtol=0, atol=1e-6)
        assert torch.equal(last["state_dict"][name], seen.validated[name])
        assert torch.equal(trained[name], seen.of_steps[-1][name])
        assert not torch.equal(trained[name], last["state_dict"][name])


def test_training_is_not_changed_and_the_best_epoch_is_that_of_the_averages(tmp_path):
    _, plain = fit(tmp_path / "plain")
    trainer, averaged = fit(tmp_path / "averaged", ema_decay=0.9)
    for before, after in zip(plain.of_steps, averaged.of_steps, strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)
    best = tmp_path / "averaged" / "checkpoints" / "best.ckpt"
    model = new_model()
    model.load_state_dict(read_checkpoint(best)["state_dict"])
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    (found,) = L.Trainer(**options).validate(model, batches(2), verbose=False)
    step = read_checkpoint(best)["global_step"]
    expected = find_callback(trainer, ValidationHistory).by_step[step]
    assert found["val/loss"] == pytest.approx(expected["val/loss"], abs=1e-7)
    # The trainer's own test loads them too, and leaves the averages alone.
    trainer.test(ckpt_path=best, dataloaders=batches(2), verbose=False, weights_only=True)
    tested = weights_of(trainer.lightning_module)
    assert all(torch.equal(tested[name], weight) for name, weight in weights_of(model).items())


@pytest.mark.parametrize("stops", [(2, STEPS + 1), (STEPS,)])
def test_interrupted_training_resumes_bit_by_bit(tmp_path, cache, stops):  # noqa: F811
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    train(whole, cache, ema_decay=0.9)
    for stop in stops:
        with pytest.raises(Interrupted):
            in_validation = {"stop": StopInValidation} if stop == STEPS else {}
            train(stopped, cache, stop_after=stop, ema_decay=0.9, **in_validation)
    train(stopped, cache, ema_decay=0.9)
    assert list(differences(outputs(whole), outputs(stopped))) == []


def test_rollback_resumes_from_finite_averages(tmp_path):
    loader = batches(6)
    spoil = SpoilEmbedding(3, word_of(loader, 3))
    options = {"on_nonfinite": "rollback", "checkpoint_every_n_steps": 2, "ema_decay": 0.9}
    with pytest.raises(RollbackRequestedError):
        small_trainer(tmp_path, spoil, **options).fit(new_model(), loader, batches(2))
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 2
    both = [*last["state_dict"].values(), *last["callbacks"]["WeightAverage"]["trained"].values()]
    assert all(weight.isfinite().all() for weight in both)


def test_a_checkpoint_without_averages_is_their_first_value(tmp_path):
    fit(tmp_path / "plain")
    last = tmp_path / "plain" / "checkpoints" / "last.ckpt"
    weights = read_checkpoint(last)["state_dict"]
    callback, model = WeightAverage(0.9), new_model()
    trainer = L.Trainer(accelerator="cpu", logger=False, barebones=True)
    model.load_state_dict(weights)
    callback.on_load_checkpoint(trainer, model, read_checkpoint(last))
    callback.on_fit_start(trainer, model)
    assert all(torch.equal(callback._averages[name], weights[name]) for name in weights_of(model))


def config(**optimizer) -> RunConfig:
    trainer = OPTIONS["trainer"] | {"ema_decay": 0.99}
    options = {"trainer": trainer, "optimizer": {"name": "adamw"} | optimizer}
    return validate(RunConfig, OPTIONS | options)


def test_every_row_of_the_embedding_is_updated_at_each_step(cache):  # noqa: F811
    with pytest.raises(ConfigError, match=r"optimizer.sparse_embedding=true trainer.ema_decay="):
        config(sparse_embedding=True)
    data = TextDataModule(DemoConfig(cache_dir=str(cache), num_train=50, num_test=20))
    data.setup()
    model = build_model(config(), data, Start(InitialWeights(), {}, None, ()))
    assert model.optimizer_config.sparse_embedding is False
