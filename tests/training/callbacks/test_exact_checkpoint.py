"""last.ckpt in a real Trainer: a training that stops between two steps resumes bit by bit."""

import copy
import csv
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.training.callbacks.best_checkpoint import BestCheckpoint
from rnn_lab.training.callbacks.monitors import Throughput
from rnn_lab.training.checkpoint_io import (
    AtomicCheckpointIO,
    ResumePoint,
    read_checkpoint,
    restore_best,
)
from rnn_lab.training.rng_state import rng_state, set_rng_state
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.trainer import find_callback
from tests.training.killing import TIMING, differences
from tests.training.small_trainer import small_trainer

STEPS = 6  # an epoch


class StopAfter(L.Callback):
    """Stop as SIGTERM does, in the step with that number."""

    def __init__(self, shutdown: GracefulShutdown, step: int) -> None:
        self._shutdown, self._step = shutdown, step

    def on_before_zero_grad(self, trainer, module, optimizer) -> None:
        if trainer.global_step == self._step:
            self._shutdown.received = 15


class StopInValidation(StopAfter):
    """Stop as SIGTERM does, in the validation after the step with that number."""

    on_before_zero_grad = L.Callback.on_before_zero_grad

    def on_validation_batch_start(self, trainer, *_) -> None:
        if trainer.global_step == self._step:
            self._shutdown.received = 15


class Kill(StopAfter):
    """End in the step with that number, without a checkpoint of it."""

    def on_before_zero_grad(self, trainer, module, optimizer) -> None:
        if trainer.global_step == self._step:
            raise Interrupted(9)


class ScriptedAccuracy(L.Callback):
    """Let val/accuracy have these values, one an epoch."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values

    def on_validation_end(self, trainer, module) -> None:
        value = self._values[trainer.current_epoch]
        trainer.callback_metrics["val/accuracy"] = torch.tensor(float(value))


def train(
    folder: Path,
    cache: Path,
    *,
    stop_after: int | None = None,
    stop: type[StopAfter] = StopAfter,
    weighted_sampling: bool = False,
    watched: Sequence[float] = (),
    **options,
) -> L.Trainer:
    """Train on demo reviews for two epochs, or resume from the last.ckpt in `folder`.

    `watched` are the values of the monitored metric, one an epoch.
    """
    L.seed_everything(0, verbose=False)
    random.seed(0)
    small = {"num_train": 200, "num_test": 40, "batch_size": 32, "max_length": 60}
    data = TextDataModule(
        DemoConfig(cache_dir=str(cache), weighted_sampling=weighted_sampling, **small)
    )
    data.setup()
    last = folder / "checkpoints" / "last.ckpt"
    resume_point = None
    if last.exists():
        content = read_checkpoint(last)
        resume_point = ResumePoint(last, content["resume"], content["global_step"])
        data.resume_at(resume_point.state["epoch"], resume_point.state["batch_idx"])
    small = {"name": "lstm", "embedding_dim": 4, "hidden_size": 4, "dropout": 0.5}
    model = TextClassifier(small, data.vocab_size, 2, {"name": "adamw"}, {"name": "one_cycle"})
    shutdown = GracefulShutdown()
    options = {"enable_progress_bar": False, "log_every_n_steps": 1, "max_epochs": 2} | options
    trainer = small_trainer(folder, resume_point=resume_point, shutdown=shutdown, **options)
    if stop_after is not None:
        trainer.callbacks.insert(0, stop(shutdown, stop_after))
    if watched:
        trainer.callbacks.insert(0, ScriptedAccuracy(watched))
    path = resume_point.path if resume_point else None
    trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
    return trainer


def outputs(folder: Path) -> dict:
    """Return the checkpoints without timings, and the files beside them."""
    left = {}
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(folder / "checkpoints" / name, weights_only=True)
        for timing in ("seconds", "epoch_seconds"):
            content["callbacks"]["Throughput"].pop(timing)
            content.get("resume", {}).pop(timing, None)
        for state in content["callbacks"].values():
            for path in [key for key in state if "path" in key] + ["best_k_models"]:
                state.pop(path, None)
        content.pop("loops")  # the validation counters of an epoch are not needed
        left[name] = content
    for name in ("metrics.csv", "gradient_flow.csv"):
        path = folder / name
        lines = path.read_text().splitlines() if path.exists() else []
        left[name] = [
            {column: cell for column, cell in row.items() if column not in TIMING}
            for row in csv.DictReader(lines)
        ]
    return left


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, cache) -> Path:
    """A training without an interruption."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder, cache, gradient_flow=4)
    return folder


@pytest.mark.parametrize("stops", [(2,), (STEPS - 1, STEPS), (3, STEPS + 1, 2 * STEPS - 1)])
def test_interrupted_training_resumes_bit_by_bit(tmp_path, cache, uninterrupted, stops):
    for stop in stops:
        with pytest.raises(Interrupted):
            train(tmp_path, cache, stop_after=stop, gradient_flow=4)
    trainer = train(tmp_path, cache, gradient_flow=4)
    assert list(differences(outputs(uninterrupted), outputs(tmp_path))) == []
    assert find_callback(trainer, Throughput).examples == 2 * 180


@pytest.mark.parametrize(
    ("options", "kills"),
    [
        ({"max_steps": 11, "max_epochs": 3}, (STEPS + 1, STEPS + 2)),  # twice in one epoch
        ({"max_steps": 2 * STEPS + 1, "max_epochs": 3}, (STEPS + 2, 2 * STEPS)),
        ({"val_check_interval": 3, "checkpoint_every_n_steps": 1}, (3, STEPS, STEPS + 3)),
        (
            {
                "val_check_interval": 1,
                "accumulate_grad_batches": 2,
                "checkpoint_every_n_steps": 1,
            },
            (1, 4),
        ),
    ],
)
@pytest.mark.parametrize("log_every_n_steps", [1, 2])
def test_steps_are_counted_from_the_checkpoint(tmp_path, cache, options, kills, log_every_n_steps):
    options |= {"log_every_n_steps": log_every_n_steps}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    train(whole, cache, **options)
    for step in kills:
        with pytest.raises(Interrupted):
            train(killed, cache, stop=Kill, stop_after=step, **options)
    train(killed, cache, **options)
    assert list(differences(outputs(whole), outputs(killed))) == []


def test_sanity_check_changes_no_bit(tmp_path, cache, uninterrupted):
    options = {"gradient_flow": 4, "num_sanity_val_steps": 2}
    with pytest.raises(Interrupted):
        train(tmp_path, cache, stop_after=STEPS + 2, **options)
    train(tmp_path, cache, **options)
    assert list(differences(outputs(uninterrupted), outputs(tmp_path))) == []


def test_weighted_sampling_resumes_bit_by_bit(tmp_path, cache):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    train(whole, cache, weighted_sampling=True)
    with pytest.raises(Interrupted):
        train(stopped, cache, weighted_sampling=True, stop_after=STEPS + 2)
    train(stopped, cache, weighted_sampling=True)
    assert list(differences(outputs(whole), outputs(stopped))) == []


@pytest.mark.parametrize("accumulate", [1, 4])
def test_interrupted_validation_loses_one_step_at_most(tmp_path, cache, accumulate):
    options = {"accumulate_grad_batches": accumulate, "gradient_flow": 4}
    (tmp_path / "uninterrupted").mkdir()
    train(tmp_path / "uninterrupted", cache, **options)
    steps = -(-STEPS // accumulate)  # an epoch
    for epoch in range(2):
        with pytest.raises(Interrupted):
            stop_after = (epoch + 1) * steps
            train(tmp_path, cache, stop=StopInValidation, stop_after=stop_after, **options)
        last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
        assert last["resume"]["epoch"] == epoch
        assert last["resume"]["batch_idx"] == (steps - 1) * accumulate
        assert last["global_step"] == (epoch + 1) * steps - 1
    train(tmp_path, cache, **options)
    assert list(differences(outputs(tmp_path / "uninterrupted"), outputs(tmp_path))) == []


def test_a_validation_within_an_epoch_can_be_interrupted_too(tmp_path, cache):
    options = {"val_check_interval": 4, "accumulate_grad_batches": 2}
    (tmp_path / "uninterrupted").mkdir()
    train(tmp_path / "uninterrupted", cache, **options)
    with pytest.raises(Interrupted):
        train(tmp_path, cache, stop=StopInValidation, stop_after=2, **options)
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert (last["resume"]["batch_idx"], last["global_step"]) == (2, 1)
    train(tmp_path, cache, **options)
    assert list(differences(outputs(tmp_path / "uninterrupted"), outputs(tmp_path))) == []


def test_an_early_stop_that_waits_for_min_epochs_is_not_forgotten(tmp_path, cache):
    """Also where the metric becomes better again meanwhile."""
    options = {"patience": 1, "min_epochs": 5, "max_epochs": 9, "limit_train_batches": 1}
    stopping = partial(train, cache=cache, watched=[3, 2, 4, 5, 6, 7, 8, 9, 10], **options)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    assert stopping(whole).current_epoch == 5
    with pytest.raises(Interrupted):
        stopping(stopped, stop_after=4)
    assert stopping(stopped).current_epoch == 5


def test_complete_training_is_not_continued(tmp_path, cache):
    """Nor one that stopped early."""
    options = {"patience": 1, "max_epochs": 9, "limit_train_batches": 1}
    before = train(tmp_path, cache, **options)
    assert before.current_epoch < 9
    weights = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    after = train(tmp_path, cache, **options)
    assert after.current_epoch == before.current_epoch
    assert after.global_step == before.global_step
    found = after.lightning_module.state_dict()
    assert all(torch.equal(weights[name], found[name]) for name in weights)


def test_checkpoint_waits_for_accumulated_gradients(tmp_path, cache):
    """They are in no checkpoint, so it is written after the step of the optimizer."""
    options = {"accumulate_grad_batches": 2, "precision": "64-true"}
    (tmp_path / "uninterrupted").mkdir()
    train(tmp_path / "uninterrupted", cache, **options)
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", cache, stop_after=1, **options)
    resumed = read_checkpoint(tmp_path / "stopped" / "checkpoints" / "last.ckpt")["resume"]
    assert (resumed["epoch"], resumed["batch_idx"]) == (0, 4)  # not after three batches
    train(tmp_path / "stopped", cache, **options)
    assert (
        list(differences(outputs(tmp_path / "uninterrupted"), outputs(tmp_path / "stopped"))) == []
    )


def test_float64_weights_are_tested_as_they_were_saved(tmp_path, cache):
    trained = train(tmp_path, cache, precision="64-true", max_epochs=1)
    module = copy.deepcopy(trained.lightning_module).float()
    best = tmp_path / "checkpoints" / "best.ckpt"
    tester = small_trainer(tmp_path / "test", precision="64-true")
    tester.test(module, ckpt_path=best, datamodule=trained.datamodule, verbose=False)
    saved = read_checkpoint(best)["state_dict"]
    assert list(differences(saved, dict(module.state_dict()))) == []


@pytest.mark.parametrize(
    "often", [{"checkpoint_every_n_steps": 2}, {"checkpoint_every_n_minutes": 1e-9}]
)
def test_last_checkpoint_is_written_within_an_epoch(tmp_path, cache, often):
    written = []

    write = AtomicCheckpointIO.save_checkpoint

    def watched(self, checkpoint, path, **options):
        if Path(path).name == "last.ckpt":
            written.append(checkpoint["global_step"])
        write(self, checkpoint, path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", watched)
        train(tmp_path, cache, **often)
    every = range(1, 13) if "checkpoint_every_n_minutes" in often else range(2, 13, 2)
    assert written == list(every)


def test_random_number_generators_are_restored():
    def draw() -> tuple:
        return (
            torch.rand(3).tolist(),
            np.random.normal(size=3).tolist(),
            random.gauss(),
            (
                random.random(),
                np.random.rand(),
            ),
        )

    draw()
    state = rng_state()
    expected = draw()
    set_rng_state(state)
    assert draw() == expected


def test_failed_write_keeps_the_earlier_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"step": lambda: 2}, path)
    assert read_checkpoint(path) == {"schema_version": 3, "step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_best_checkpoint_belongs_to_the_last_one(tmp_path):
    """The process may be killed between writing the best.ckpt and the last.ckpt of an epoch."""
    write = AtomicCheckpointIO().save_checkpoint
    write({"epoch": 0}, tmp_path / "best.ckpt")
    write({"epoch": 0}, tmp_path / "last.ckpt")
    write({"epoch": 1}, tmp_path / "best.ckpt")
    restore_best(tmp_path)
    assert read_checkpoint(tmp_path / "best.ckpt") == {"schema_version": 3, "epoch": 0}
    write({"epoch": 1}, tmp_path / "best.ckpt")
    write({"epoch": 1}, tmp_path / "last.ckpt")
    restore_best(tmp_path)
    assert read_checkpoint(tmp_path / "best.ckpt") == {"schema_version": 3, "epoch": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


class Scripted(L.LightningModule):
    """Has given val/accuracy and val/loss in each epoch, and the epoch as its weight."""

    def __init__(self, metrics: list[tuple[float, float]]) -> None:
        super().__init__()
        self.metrics, self.epoch = metrics, torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        self.epoch.data.fill_(self.current_epoch)
        return self.epoch * 0

    def validation_step(self, batch, batch_idx):
        self.log_dict(
            dict(zip(("val/accuracy", "val/loss"), self.metrics[self.current_epoch], strict=True))
        )

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(
    folder: Path, metrics: list[tuple[float, float]], epochs: int = -1, resume: Path | None = None
) -> None:
    """Train a Scripted module for all or the first epochs."""
    batches = torch.utils.data.DataLoader(torch.zeros(1, 1))
    callbacks = [BestCheckpoint(folder, "val/accuracy", "max")]
    callbacks.append(ModelCheckpoint(folder, "last", enable_version_counter=False))
    options = {"accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0}
    options |= {"enable_progress_bar": False, "enable_model_summary": False}
    options |= {"plugins": [AtomicCheckpointIO()]}
    epochs = len(metrics) if epochs < 0 else epochs
    trainer = L.Trainer(max_epochs=epochs, callbacks=callbacks, **options)
    trainer.fit(Scripted(metrics), batches, batches, ckpt_path=resume)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("killed", ["before last.ckpt", "after last.ckpt"])
def test_a_kill_between_best_and_last_checkpoint(killed, tmp_path):
    """Both are written in an epoch; then the best.ckpt of the epochs before is removed."""
    metrics = [(0.5, 0.9), (0.6, 0.8)]
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    fit(tmp_path, metrics, 1)
    before = best.read_bytes(), last.read_bytes()
    fit(tmp_path, metrics, resume=last)
    expected = best.read_bytes()
    assert before[0] != expected
    (tmp_path / ".best.ckpt.earlier").write_bytes(before[0])
    if killed == "before last.ckpt":
        last.write_bytes(before[1])
        expected = before[0]
    restore_best(tmp_path)
    assert best.read_bytes() == expected
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("metrics", "best"),
    [
        ([(0.9, 0.6), (0.9, 0.3), (0.9, 0.4)], 1),  # equal: the lowest loss
        ([(0.8, 0.2), (0.9, 0.6), (0.8, 0.1)], 1),  # the metric decides first
        ([(0.9, 0.3), (0.9, 0.3)], 0),  # equal in both: the first
        ([(0.9, torch.nan), (0.9, 0.3)], 0),  # nothing to compare with
    ],
)
def test_of_equal_epochs_the_one_with_the_lowest_loss_is_best(metrics, best, tmp_path):
    fit(tmp_path / "whole", metrics)
    fit(tmp_path / "resumed", metrics, 1)
    fit(tmp_path / "resumed", metrics, resume=tmp_path / "resumed" / "last.ckpt")
    for folder in ("whole", "resumed"):
        found = torch.load(tmp_path / folder / "best.ckpt", weights_only=True)
        assert int(found["state_dict"]["epoch"]) == best


def test_a_checkpoint_that_does_not_hold_the_loss_can_be_tested(tmp_path):
    state = BestCheckpoint(tmp_path, "val/accuracy", "max").state_dict()
    state |= {"loss": 0.5, "best_model_path": "/elsewhere/best.ckpt"}
    older = {name: value for name, value in state.items() if name not in ("loss", "step")}
    for saved in (state, older):
        callback = BestCheckpoint(tmp_path, "val/accuracy", "max")
        callback.load_state_dict(saved)
        assert callback.best_model_path == str(tmp_path / "best.ckpt")
