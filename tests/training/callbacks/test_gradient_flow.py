"""The callback in a real Trainer: what it writes, and that it changes no result."""

import copy
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.trace import gradient_norms
from rnn_lab.runs.gradient_flow import read_gradient_flow
from rnn_lab.runs.metrics import by_step, read_metrics
from tests.training.small_trainer import small_trainer


@pytest.fixture
def data(tmp_path) -> TextDataModule:
    config = DemoConfig(num_train=100, num_test=20, batch_size=16, cache_dir=str(tmp_path / "data"))
    return TextDataModule(config, seed=1)  # 90 reviews to train on: 6 steps an epoch


def train(folder: Path, data: TextDataModule, logger: str = "csv", model: dict | None = None,
          **options) -> tuple[L.Trainer, TextClassifier]:  # fmt: skip
    L.seed_everything(5, verbose=False)
    data.setup()
    small = {"name": "lstm", "embedding_dim": 4, "hidden_size": 4} | (model or {})
    classifier = TextClassifier(small, data.vocab_size, 2, {"name": "adamw"}, {"name": "one_cycle"})
    trainer = small_trainer(folder, logger=logger, **({"max_epochs": 2} | options))
    trainer.fit(classifier, datamodule=data)
    return trainer, classifier


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_is_bit_identical_with_and_without_it(tmp_path, data, precision):
    ends = []
    for when in (None, 2):
        folder = tmp_path / str(when)
        _, classifier = train(folder, data, gradient_flow=when, precision=precision)
        checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        metrics = read_metrics(folder)
        ends.append(
            {
                "weights": checkpoint["state_dict"],
                "optimizer": checkpoint["optimizer_states"][0]["state"],
                "random": torch.get_rng_state(),
                "training": classifier.training,
                "gradients": [p.grad is None for p in classifier.parameters()],
            }
            | {name: by_step(metrics, name)[1] for name in ("train/loss", "val/loss")}
        )
        assert (folder / "gradient_flow.csv").exists() == (when is not None)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"gradient_flow": "epoch"}, [0, 6, 12]),
        ({"gradient_flow": 5}, [0, 5, 10, 12]),
        ({"gradient_flow": 4, "accumulate_grad_batches": 2}, [0, 4, 6]),
        ({"gradient_flow": 100}, [0, 12]),
    ],
)
def test_steps_of_measurement(tmp_path, data, options, steps):
    train(tmp_path, data, **options)
    assert [flow.step for flow in read_gradient_flow(tmp_path)] == steps


def test_written_norms_are_those_of_the_model_at_that_step(tmp_path, data):
    model = {"name": "gru", "bidirectional": True}
    _, classifier = train(tmp_path, data, model=model, gradient_flow="epoch")
    probe = data.sample_evenly("train", 32)
    assert len(set(probe.indices.tolist())) == 32
    assert len(set(probe.lengths.tolist())) > 5
    expected = gradient_norms(
        copy.deepcopy(classifier.classifier).double(), probe.tokens, probe.lengths, probe.labels
    )
    header = (tmp_path / "gradient_flow.csv").read_text().partition("\n")[0]
    assert header == "step,layer,direction,distance,norm,examples"
    last = read_gradient_flow(tmp_path)[-2:]
    for one, flow in zip(expected, last, strict=True):
        assert (flow.layer, flow.direction) == (0, "backward" if one.backward else "forward")
        shown = int(probe.lengths.sort().values[-8])  # the longest that a quarter of the texts has
        assert flow.distances.tolist() == list(range(shown))
        np.testing.assert_allclose(flow.norms, one.norms[:shown], rtol=1e-12)
    first = read_gradient_flow(tmp_path)[0]
    assert not np.allclose(first.norms, last[0].norms, rtol=0.01)
    steps, norms = by_step(read_metrics(tmp_path), "gradient_flow/layer0/distance_10")
    assert steps.tolist() == [0, 6, 12]
    assert norms[-1] == pytest.approx(last[0].norms[10])


def test_tensorboard_has_the_curves(tmp_path, data):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, data, logger="tensorboard", gradient_flow="epoch", max_epochs=1)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = events.Scalars("gradient_flow/layer0/distance_1")
    assert [point.step for point in curve] == [0, 6]
    norms = [flow.norms[1] for flow in read_gradient_flow(tmp_path)]
    assert [point.value for point in curve] == pytest.approx(norms, rel=1e-5)


def test_probe_of_a_small_split_is_all_of_it(data):
    data.setup()
    assert data.sample_evenly("validation", 32).indices.tolist() == list(range(10))
