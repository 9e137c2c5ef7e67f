"""The private parts of Lightning and torch that the project uses behave as it expects."""

import signal

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from tests.training.callbacks.test_monitors import batches, model  # noqa: F401
from tests.training.small_trainer import small_trainer


class Probe(L.Callback):
    """Record what the private parts hold in the first epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))
        self.is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if batch_idx == 2:
            self.means = {
                name: (float(metric.value), int(metric.cumulated_batch_size), metric.meta.on_epoch)
                for name, metric in trainer.fit_loop.epoch_loop._results.items()
            }
            self.checkpoint = trainer._checkpoint_connector.dump_checkpoint(False)
            self.handler = signal.getsignal(signal.SIGTERM)


@pytest.fixture
def probe(tmp_path, model):  # noqa: F811
    probe = Probe()
    trainer = small_trainer(tmp_path, probe, max_epochs=1)
    trainer.fit(model, batches(4), batches(2))
    return probe


def test_epoch_results_hold_sum_and_count_of_each_mean(probe):
    value, count, on_epoch = probe.means["training_step.train/loss"]
    assert on_epoch and count == 3 * 4  # batches of four
    assert value == pytest.approx(4 * sum(probe.losses[:3]), rel=1e-5)


def test_batch_progress_knows_the_last_batch(probe):
    assert probe.is_last and len(probe.losses) == 4


def test_dump_checkpoint_returns_counters_within_an_epoch(probe):
    checkpoint = probe.checkpoint
    assert {"epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"} <= (
        checkpoint.keys()
    )
    loops = checkpoint["loops"]["fit_loop"]
    batch_progress = loops["epoch_loop.batch_progress"]
    assert {scope: {*batch_progress[scope]} for scope in ("total", "current")} == {
        scope: {"ready", "started", "processed", "completed"} for scope in ("total", "current")
    }
    assert loops["epoch_loop.state_dict"] == {"_batches_that_stepped": 2}  # the third has not ended
    assert batch_progress["current"]["ready"] == 3 and "is_last_batch" in batch_progress
    assert {"ready", "started", "completed"} <= loops["epoch_progress"]["current"].keys()


def test_lightning_registers_no_signal_handler(probe, tmp_path, model):  # noqa: F811
    assert probe.handler == signal.getsignal(signal.SIGTERM)
    # Without the project's connector, it does: otherwise the class would not be needed.
    trainer = small_trainer(tmp_path / "other", other := Probe(), max_epochs=1)
    assert isinstance(trainer._signal_connector, _SignalConnector)
    trainer._signal_connector = _SignalConnector(trainer)
    trainer.fit(model, batches(4), batches(2))
    assert other.handler != signal.getsignal(signal.SIGTERM)


def test_scale_of_float16_can_be_read_without_waiting():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(1))
    scale = scaler._get_scale_async()
    assert isinstance(scale, torch.Tensor) and float(scale) == scaler.get_scale() == 8.0
    assert MixedPrecision("16-mixed", "cpu", scaler).scaler is scaler
