"""Recurrent layers, the networks on top of them, and the LightningModules that train these.

`RNN`, `LSTM` and `GRU` are torch.nn's layers for padded sequences of different lengths, usable in
any project. `TextClassifier` is the LightningModule of a classifier with any cell:
TextClassifier({"name": "lstm"}, vocab_size, num_classes). `register_cell`, `register_pooling` and
`register_schedule` add to what the options `model.name`, `model.pooling` and `scheduler.name` can
name, `register_loss` to the options of the group `loss`. Models know nothing of files or trainers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnn_lab.models.cells import Cell, Value, register_cell
    from rnn_lab.models.config import ModelConfig
    from rnn_lab.models.fast.paths import register_fast_path
    from rnn_lab.models.layers import GRU, LSTM, RNN, RecurrentLayer
    from rnn_lab.models.lightning_module import TextClassifier
    from rnn_lab.models.losses import register_loss
    from rnn_lab.models.pooling import register_pooling
    from rnn_lab.models.schedules import register_schedule

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "ModelConfig",
    "RecurrentLayer",
    "TextClassifier",
    "Value",
    "register_cell",
    "register_fast_path",
    "register_loss",
    "register_pooling",
    "register_schedule",
]


def __getattr__(name: str) -> Any:
    # Lazily, and modules without torch first: a command checks its options before torch is loaded.
    if name in __all__:
        parts = ("config", "schedules", "losses", "cells", "pooling", "fast.paths", "layers")
        for part in (*parts, "lightning_module"):
            module = import_module(f"{__name__}.{part}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
