"""Train until a test accuracy is reached or a time limit has passed."""

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from benchmarks.contenders import KerasProcess
from benchmarks.peers import PackedLayer
from rnn_lab.data.batches import Batch, BatchDataset
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.samplers import BucketBatchSampler
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.optimizers import build_optimizer, build_scheduler
from rnn_lab.training.callbacks import build_callbacks
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import Accelerator, Hardware, choose_precision
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.trainer import build_trainer

Curve = list[tuple[float, float]]  # seconds on the clock, test accuracy

TESTS_AN_EPOCH = 4


class Goal(NamedTuple):
    """When a race ends."""

    accuracy: float
    limit: float  # seconds, for peers


class _TestClock(Callback):
    """Measure test accuracy every quarter of an epoch with the clock stopped."""

    def __init__(self, goal: Goal, test: list[Batch]) -> None:
        self.curve: Curve = []
        self._goal, self._test = goal, test
        self._start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Test, and stop the run if the goal is reached."""
        if (batch_idx + 1) % test_every(int(trainer.num_training_batches)) == 0:
            stopped = time.perf_counter()
            classifier: Any = module.classifier
            self.curve.append((stopped - self._start, accuracy(classifier, self._test)))
            _print_last("ours", self.curve)
            trainer.should_stop = self.curve[-1][1] >= self._goal.accuracy
            self._start += time.perf_counter() - stopped


def race_ours(
    config: RunConfig, goal: Goal, split: str = "test", accelerator: Accelerator = "cpu"
) -> Curve:
    """Run train.py's training from the encoded reviews on disk; its epochs are its limit.

    Accuracy is that of `split`.
    """
    data = TextDataModule(config.data, seed=config.seed, allow_fallback=True)
    data.setup()
    clock = _TestClock(goal, list(data.dataloader_for(split)))
    L.seed_everything(config.seed, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        data = TextDataModule(config.data, seed=config.seed, allow_fallback=True)
        data.setup()
        model = TextClassifier(
            config.model, data.vocab_size, data.num_classes, config.optimizer, config.scheduler
        )
        hardware = Hardware(accelerator, 1, choose_precision(config.trainer, accelerator))
        callbacks = [*build_callbacks(RunSpec(config, Path(folder))), clock]
        trainer = build_trainer(config.trainer, hardware, Path(folder), [], callbacks)
        trainer.fit(model, datamodule=data)
    return clock.curve


def race_packed(config: RunConfig, goal: Goal, threads: int) -> Curve:
    """Train the same network on torch's packed sequences, in float32, in a bare loop.

    It runs in a process of its own with torch's default settings.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as process:
        return process.submit(_packed_loop, config, goal, threads).result()


def _packed_loop(config: RunConfig, goal: Goal, threads: int) -> Curve:
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    data = TextDataModule(config.data, seed=config.seed, allow_fallback=True)
    data.setup()
    test = list(data.test_dataloader())
    classifier = RecurrentClassifier(config.model, data.vocab_size, data.num_classes)
    # Our layer tests the same parameters: equal results, sooner.
    ours, packed = classifier.recurrent, PackedLayer(classifier.recurrent)
    optimizer = build_optimizer(config.optimizer, classifier)
    dataset, epochs = _training(config, data)
    every = test_every(len(epochs[0]))
    scheduler = build_scheduler(config.scheduler, optimizer, sum(map(len, epochs)))
    curve: Curve = []
    spent = 0.0
    for step, rows in enumerate((rows for epoch in epochs for rows in epoch), start=1):
        started = time.perf_counter()
        classifier.recurrent = packed  # type: ignore[assignment]
        batch = dataset[rows]
        optimizer.zero_grad()
        F.cross_entropy(classifier(batch.tokens, batch.lengths), batch.labels).backward()
        if config.trainer.gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(
                classifier.parameters(), config.trainer.gradient_clip_val
            )
        optimizer.step()
        scheduler.step()
        spent += time.perf_counter() - started
        if step % every == 0 or spent > goal.limit:
            classifier.recurrent = ours
            curve.append((spent, accuracy(classifier, test)))
            _print_last("packed", curve)
            if spent > goal.limit or curve[-1][1] >= goal.accuracy:
                break
    return curve


def race_keras(config: RunConfig, data: TextDataModule, goal: Goal, threads: int) -> Curve:
    """Train the same network in Keras, in float32, in a bare loop of `train_on_batch`."""
    if config.model.pooling != "last" or config.model.num_layers != 1:
        raise SystemExit("Keras supports only model.pooling=last and model.num_layers=1")
    _, epochs = _training(config, data)
    rows = [batch for epoch in epochs for batch in epoch]
    factors = [config.scheduler.factor(i / len(rows)) for i in range(len(rows))]
    width = max(map(len, rows))
    plan: dict[str, Any] = {
        "options": json.dumps(
            {
                "model": config.model.model_dump(),
                "vocab_size": data.vocab_size,
                "optimizer": {
                    "lr": config.optimizer.lr,
                    "weight_decay": config.optimizer.weight_decay,
                    "clip": config.trainer.gradient_clip_val,
                },
                "test_every": test_every(len(epochs[0])),
            }
        ),
        "learning_rates": config.optimizer.lr * np.array(factors),
        # [steps, batch]; -1: no review
        "rows": np.stack([np.pad(r, (0, width - len(r)), constant_values=-1) for r in rows]),
    }
    for name in ("train", "test"):
        tokens, lengths, labels, _ = _dataset(data, name)[np.arange(len(data.splits[name]))]
        plan |= {
            f"{name}_tokens": tokens.numpy().astype(np.int32),  # [reviews, time]
            f"{name}_lengths": lengths.numpy(),
            f"{name}_labels": labels.numpy(),
        }
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "plan.npz", **plan)
        keras = KerasProcess(threads, Path(folder))
        setup = str(Path(folder) / "plan.npz")
        curve = keras.ask("learn", setup=setup, limit=goal.limit, target=goal.accuracy)
        keras.close()
    _print_last("Keras", curve)
    return [(seconds, tested) for seconds, tested in curve]


def accuracy(classifier: nn.Module, batches: Iterable[Batch]) -> float:
    """Return the share of reviews that `classifier` labels correctly, in float32."""
    training, device = classifier.training, next(classifier.parameters()).device
    classifier.eval()
    correct = total = 0
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for batch in batches:
            logits = classifier(batch.tokens.to(device), batch.lengths.to(device))
            correct += int((logits.argmax(dim=1) == batch.labels.to(device)).sum())
            total += len(batch.labels)
    classifier.train(training)
    return correct / total


def test_every(batches_an_epoch: int) -> int:
    """Return the steps between two measurements on the test split."""
    return max(1, batches_an_epoch // TESTS_AN_EPOCH)


def _training(
    config: RunConfig, data: TextDataModule
) -> tuple[BatchDataset, list[list[np.ndarray]]]:
    """Return the training split and the rows of each batch of each epoch, as in ours."""
    dataset = _dataset(data, "train")
    sampler = BucketBatchSampler(
        dataset.lengths, config.data.batch_size, shuffle=True, seed=config.seed
    )
    epochs = []
    for epoch in range(config.trainer.max_epochs):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    return dataset, epochs


def _dataset(data: TextDataModule, name: str) -> BatchDataset:
    return BatchDataset(
        data.splits[name],
        max_length=data.text_encoder.max_length,
        truncation_side=data.text_encoder.truncation_side,
    )


def _print_last(name: str, curve: Curve) -> None:
    seconds, tested = curve[-1]
    print(f"{name}: {seconds:6.0f} s  {100 * tested:.2f} %", file=sys.stderr)
