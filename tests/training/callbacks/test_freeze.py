"""Frozen layers neither learn nor cost a backward pass."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from rnn_lab.data.batches import Batch
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.training.callbacks.freeze import FreezePretrained


class Differentiated(L.Callback):
    """Record after each backward pass of which layers it computed gradients."""

    def __init__(self) -> None:
        self.layers: list[set[str]] = []

    def on_after_backward(self, trainer: L.Trainer, module: TextClassifier) -> None:
        named = module.network.named_parameters()
        self.layers.append({name.split(".")[0] for name, p in named if p.grad is not None})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", [{}, {"adversarial": 1.0}, {"virtual_adversarial": 1.0}], ids=str)
@pytest.mark.parametrize("recurrent", [False, True])
def test_no_gradient_of_frozen_layers_is_computed(recurrent, loss, tmp_path):
    options = {"name": "gru", "embedding_dim": 4, "hidden_size": 3}
    module = TextClassifier(options, 20, 2, {"name": "sgd"}, {"name": "constant"}, loss=loss)
    before = {name: weight.clone() for name, weight in module.network.named_parameters()}
    tokens, labels = torch.randint(2, 20, (6, 5)), torch.tensor([0, 1] * 3)
    batches = [Batch(tokens, torch.full((6,), 5), labels, torch.arange(6))]
    seen, freeze = Differentiated(), FreezePretrained(2, recurrent=recurrent)
    L.Trainer(
        max_epochs=3,
        callbacks=[freeze, seen],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, DataLoader(batches, batch_size=None))
    every = {"embedding", "recurrent", "linear"}
    frozen = {"embedding", "recurrent"} if recurrent else {"embedding"}
    assert seen.layers == [every - frozen, every - frozen, every]
    assert all(weight.requires_grad for weight in module.parameters())
    moved = {n for n, weight in module.network.named_parameters() if not weight.equal(before[n])}
    assert {name.split(".")[0] for name in moved} == every
