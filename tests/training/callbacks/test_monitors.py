"""The callbacks in a real Trainer."""

import csv
import time
from functools import partial

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from rnn_lab.data.batches import Batch
from rnn_lab.data.progress import ProgressLines
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.training.callbacks import monitors
from rnn_lab.training.callbacks.monitors import (
    PredictionCollector,
    Throughput,
    ValidationHistory,
)
from rnn_lab.training.trainer import find_callback
from tests.training.small_trainer import small_trainer


def batches(count: int, size: int = 4) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    built = []
    for i in range(count):
        tokens = torch.randint(2, 20, (size, 6), generator=generator)
        indices = torch.arange(size * (count - i - 1), size * (count - i))  # the last ones first
        built.append(Batch(tokens, torch.full((size,), 6), tokens[:, 0] % 2, indices))
    return DataLoader(built, batch_size=None)


@pytest.fixture
def model():
    L.seed_everything(0, verbose=False)
    small = {"name": "gru", "embedding_dim": 4, "hidden_size": 4}
    return TextClassifier(small, 20, 2, {"name": "adamw"}, {"name": "one_cycle"})


@pytest.fixture
def trainer(tmp_path):
    return small_trainer(tmp_path, max_epochs=3, log_every_n_steps=2)


def test_metrics_of_every_epoch_are_kept_and_saved(trainer, model, tmp_path):
    trainer.fit(model, batches(4), batches(2))
    history = find_callback(trainer, ValidationHistory)
    kept = history.by_step
    assert sorted(kept) == [4, 8, 12]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/accuracy"]]
    assert [float(row["val/loss"]) for row in rows] == pytest.approx(
        [kept[step]["val/loss"] for step in (4, 8, 12)]
    )
    checkpoint = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    fresh = ValidationHistory()
    fresh.load_state_dict(checkpoint["callbacks"]["ValidationHistory"])
    assert fresh.by_step == kept


def test_learning_rate_and_gradient_norm_are_logged_every_n_steps(trainer, model, tmp_path):
    trainer.fit(model, batches(4), batches(2))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["grad_norm"]]
    assert [int(row["step"]) for row in rows] == [1, 3, 5, 7, 9, 11]
    assert all(float(row["grad_norm"]) > 0 for row in rows)
    assert float(rows[-1]["lr"]) < 2e-3


def test_gradient_norm_is_logged_before_clipping(tmp_path, model):
    norms = []

    class Watch(L.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            flat = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
            norms.append(float(torch.cat(flat).norm()))

    trainer = small_trainer(tmp_path, max_epochs=1, log_every_n_steps=1, gradient_clip_val=1e-4)
    trainer.callbacks.append(Watch())
    trainer.fit(model, batches(3), batches(1))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        written = [float(row["grad_norm"]) for row in csv.DictReader(file) if row["grad_norm"]]
    assert written == pytest.approx(norms)
    assert min(written) > 1e-3


def test_throughput_counts_every_training_example(trainer, model):
    trainer.fit(model, batches(4), batches(2))
    throughput = find_callback(trainer, Throughput)
    assert throughput.examples == 3 * 4 * 4
    assert throughput.examples_per_s == round(throughput.examples / throughput.seconds, 1)


class SlowValidation(L.Callback):
    """Wait in each validation batch."""

    def on_validation_batch_start(self, *_) -> None:
        time.sleep(0.1)


def test_the_time_of_validations_within_an_epoch_is_not_that_of_training(model, tmp_path):
    trainer = small_trainer(tmp_path, SlowValidation(), max_epochs=1, val_check_interval=0.25)
    trainer.fit(model, batches(8), batches(2))  # 4 validations of 0.2 s
    assert find_callback(trainer, Throughput).seconds < 0.5


def test_nothing_trained_has_no_speed():
    assert Throughput().examples_per_s is None


def test_an_epoch_without_a_validation_prints_no_metrics_of_an_earlier_one(model, tmp_path, capsys):
    trainer = small_trainer(tmp_path, max_epochs=3, check_val_every_n_epoch=2)
    trainer.fit(model, batches(4), batches(2))
    printed = capsys.readouterr().out.splitlines()[-3:]
    assert ["val/" in line for line in printed] == [False, True, False]


def test_predictions_are_in_the_order_of_the_split(trainer, model):
    test = batches(3)
    trainer.test(model, test, verbose=False)
    predictions = find_callback(trainer, PredictionCollector)
    assert predictions.indices.tolist() == list(range(12))
    tokens = torch.cat([batch.tokens for batch in reversed(list(test))])
    model.eval()
    with torch.no_grad():
        expected = model(tokens, torch.full((12,), 6)).softmax(dim=1)
    assert torch.allclose(torch.from_numpy(predictions.probabilities), expected, atol=1e-6)


def test_without_a_terminal_a_long_epoch_says_how_far_it_is(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(monitors, "ProgressLines", partial(ProgressLines, first_wait=0))
    trainer = small_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, batches(4))
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"epoch {epoch} (last 1): {done}% after 0 min"
        for epoch in (0, 1)
        for done in (25, 50, 75, 100)
    ]
    assert [line.partition(": train/loss")[0] for line in said.out.splitlines()[-2:]] == [
        "epoch 0 (last 1)",
        "epoch 1 (last 1)",
    ]


def test_patience_stops_a_run(tmp_path, model):
    trainer = small_trainer(tmp_path, max_epochs=50, patience=2, monitor="val/accuracy")
    # The validation labels are swapped: the better trained, the worse.
    swapped = [batch._replace(labels=1 - batch.labels) for batch in batches(4)]
    trainer.fit(model, batches(4), DataLoader(swapped, batch_size=None))
    assert trainer.current_epoch < 50
