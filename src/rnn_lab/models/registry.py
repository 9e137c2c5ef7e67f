"""Names that a user's module can add to: cells, poolings, losses and learning-rate schedules.

This module and `config.py` import no torch: a command checks its options before torch is loaded.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rnn_lab.registry import Registry

if TYPE_CHECKING:
    from rnn_lab.models.cells import Cell
    from rnn_lab.models.losses import Loss
    from rnn_lab.models.pooling import Pooling

# Of this package's poolings without weights: what they join, in this order.
POOLED_PARTS: dict[str, tuple[str, ...]] = {
    "last": ("last",),
    "mean": ("mean",),
    "max": ("max",),
    "max_mean": ("max", "mean"),
    "last_max_mean": ("last", "max", "mean"),
}

CELLS: Registry["type[Cell]"] = Registry(
    "cell", ("rnn_lab.models.cells", "rnn_lab.models.zoo"), ("rnn", "lstm", "gru")
)
POOLINGS: Registry["Pooling"] = Registry(
    "pooling", ("rnn_lab.models.pooling",), (*POOLED_PARTS, "attention")
)
LOSSES: Registry["Loss"] = Registry("loss", ("rnn_lab.models.losses",))
SCHEDULES: Registry[Callable[..., float]] = Registry(
    "schedule", ("rnn_lab.models.schedules",), ("one_cycle", "cosine", "constant")
)
