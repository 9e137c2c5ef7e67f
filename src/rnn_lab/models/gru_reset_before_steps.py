"""A GRU layer with the reset gate before the product, by its cell and autograd.

torch has no such layer, on no device. It is slow; fused_gru_reset_before is the fast one.
"""

import torch
from torch import Tensor

from rnn_lab.models.cells.gru import gru_step
from rnn_lab.models.layer_arguments import State


def gru_before_by_steps(
    inputs: Tensor, lengths: Tensor, state: State, weights: State
) -> tuple[Tensor, State]:
    """One direction of one layer.

    inputs [time, batch, input] and lengths [batch] on one device; state is (h,), h [batch, hidden].
    Returns outputs [time, batch, hidden], zero beyond each length, and (h at each last real step,).
    """
    (h,) = state
    outputs = []
    for time, x in enumerate(inputs):
        real = (time < lengths)[:, None]  # [batch, 1]
        above = gru_step(x, h, weights, "before").h
        h = torch.where(real, above, h)
        outputs.append(torch.where(real, above, 0))
    return torch.stack(outputs), (h,)
