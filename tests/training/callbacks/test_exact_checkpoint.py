"""last.ckpt in a real Trainer: a training that stops between two steps goes on to the same bits."""

import csv
import random
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.models.lightning_module import build_classifier
from rnn_lab.tracking.loggers import build_loggers
from rnn_lab.training.callbacks.monitors import Throughput, find_callback
from rnn_lab.training.checkpoint_io import AtomicCheckpointIO, read_checkpoint, restore_best
from rnn_lab.training.config import CsvConfig, TrainerConfig
from rnn_lab.training.resume import ResumePoint
from rnn_lab.training.rng_state import random_state, set_random_state
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.trainer import build_trainer
from tests.training.killing import TIMING, differences

STEPS = 6  # an epoch


class StopAfter(L.Callback):
    """As SIGTERM would, in the step with that number."""

    def __init__(self, signals: GracefulShutdown, step: int) -> None:
        self._signals, self._step = signals, step

    def on_before_zero_grad(self, trainer, module, optimizer) -> None:
        if trainer.global_step == self._step:
            self._signals.received = 15


class StopInValidation(StopAfter):
    """As SIGTERM would, in the validation after the step with that number."""

    on_before_zero_grad = L.Callback.on_before_zero_grad

    def on_validation_batch_start(self, trainer, *_) -> None:
        if trainer.global_step == self._step:
            self._signals.received = 15


def train(
    folder: Path,
    cache: Path,
    *,
    stop_after: int | None = None,
    stop: type[StopAfter] = StopAfter,
    **options,
) -> L.Trainer:
    """Train on two epochs of demo reviews, from the last.ckpt in `folder` where there is one."""
    L.seed_everything(0, verbose=False)
    random.seed(0)
    data = TextDataModule(
        DemoConfig(num_train=200, num_test=40, batch_size=32, max_length=60, cache_dir=str(cache))
    )
    data.setup()
    last = folder / "checkpoints" / "last.ckpt"
    resume_point = None
    if last.exists():
        content = read_checkpoint(last)
        resume_point = ResumePoint(last, content["resume"], content["global_step"])
        data.resume_at(resume_point.state["epoch"], resume_point.state["batch"])
    small = {"name": "lstm", "embedding_dim": 4, "hidden_size": 4, "dropout": 0.5}
    model = build_classifier(small, data.vocab_size, 2, {"name": "adamw"}, {"name": "one_cycle"})
    described = {"name": "run", "tags": [], "group": None, "options": {}}
    loggers = build_loggers(CsvConfig(name="csv"), folder, resume_point=resume_point, **described)
    config = TrainerConfig(
        precision="32-true",
        enable_progress_bar=False,
        log_every_n_steps=1,
        **({"max_epochs": 2} | options),
    )
    signals = GracefulShutdown()
    resumed = resume_point.state if resume_point else None
    trainer = build_trainer(
        config, folder, loggers, accelerator="cpu", devices=1, resumed=resumed, signals=signals
    )
    if stop_after is not None:
        trainer.callbacks.insert(0, stop(signals, stop_after))
    path = resume_point.path if resume_point else None
    trainer.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
    return trainer


def kept(folder: Path) -> dict:
    """All of the checkpoints that is not timing, and the files beside them."""
    left = {}
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(folder / "checkpoints" / name, weights_only=True)
        for timing in ("seconds", "epoch_seconds"):
            content["callbacks"]["Throughput"].pop(timing)
            content.get("resume", {}).pop(timing, None)
        for state in content["callbacks"].values():
            for path in [key for key in state if "path" in key] + ["best_k_models"]:
                state.pop(path, None)
        content.pop("loops")  # counts of the validation of one epoch are not needed
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
def whole(tmp_path_factory, cache) -> Path:
    """A training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, cache, gradient_flow=4)
    return folder


@pytest.mark.parametrize("stops", [(2,), (STEPS - 1, STEPS), (3, STEPS + 1, 2 * STEPS - 1)])
def test_a_training_that_stops_goes_on_to_the_same_bits(tmp_path, cache, whole, stops):
    for stop in stops:
        with pytest.raises(Interrupted):
            train(tmp_path, cache, stop_after=stop, gradient_flow=4)
    trainer = train(tmp_path, cache, gradient_flow=4)
    assert list(differences(kept(whole), kept(tmp_path))) == []
    assert find_callback(trainer, Throughput).reviews == 2 * 180


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_training_that_stops_in_validation_loses_no_more_than_a_step(tmp_path, cache, accumulate):
    options = {"accumulate_grad_batches": accumulate, "gradient_flow": 4}
    (tmp_path / "whole").mkdir()
    train(tmp_path / "whole", cache, **options)
    steps = -(-STEPS // accumulate)  # an epoch
    for epoch in range(2):
        with pytest.raises(Interrupted):
            stop_after = (epoch + 1) * steps
            train(tmp_path, cache, stop=StopInValidation, stop_after=stop_after, **options)
        last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
        assert last["resume"]["epoch"] == epoch
        assert last["resume"]["batch"] == (steps - 1) * accumulate
        assert last["global_step"] == (epoch + 1) * steps - 1
    train(tmp_path, cache, **options)
    assert list(differences(kept(tmp_path / "whole"), kept(tmp_path))) == []


def test_a_training_that_was_done_is_not_trained_on(tmp_path, cache):
    """Also where it had stopped early."""
    options = {"patience": 1, "max_epochs": 9, "limit_train_batches": 1}
    before = train(tmp_path, cache, **options)
    assert before.current_epoch < 9
    weights = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    after = train(tmp_path, cache, **options)
    assert after.current_epoch == before.current_epoch
    assert after.global_step == before.global_step
    found = after.lightning_module.state_dict()
    assert all(torch.equal(weights[name], found[name]) for name in weights)


def test_gathered_gradients_are_never_between_two_checkpoints(tmp_path, cache):
    """They are not kept, so that a checkpoint waits for the step of the optimizer."""
    options = {"accumulate_grad_batches": 2}
    (tmp_path / "whole").mkdir()
    train(tmp_path / "whole", cache, **options)
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", cache, stop_after=1, **options)
    resumed = read_checkpoint(tmp_path / "stopped" / "checkpoints" / "last.ckpt")["resume"]
    assert (resumed["epoch"], resumed["batch"]) == (0, 4)  # not after three batches
    train(tmp_path / "stopped", cache, **options)
    assert list(differences(kept(tmp_path / "whole"), kept(tmp_path / "stopped"))) == []


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


def test_random_numbers_go_on_where_they_were():
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
    state = random_state()
    expected = draw()
    set_random_state(state)
    assert draw() == expected


def test_a_checkpoint_that_cannot_be_written_leaves_the_former_whole(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"step": lambda: 2}, path)
    assert read_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_best_checkpoint_is_that_which_the_last_one_knows(tmp_path):
    """The process may be killed after best.ckpt of an epoch and before its last.ckpt."""
    write = AtomicCheckpointIO().save_checkpoint
    write({"epoch": 0}, tmp_path / "best.ckpt")
    write({"epoch": 0}, tmp_path / "last.ckpt")
    write({"epoch": 1}, tmp_path / "best.ckpt")
    restore_best(tmp_path)
    assert read_checkpoint(tmp_path / "best.ckpt") == {"epoch": 0}
    write({"epoch": 1}, tmp_path / "best.ckpt")
    write({"epoch": 1}, tmp_path / "last.ckpt")
    restore_best(tmp_path)
    assert read_checkpoint(tmp_path / "best.ckpt") == {"epoch": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
