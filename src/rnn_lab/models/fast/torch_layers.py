"""torch's layers over one padded block, one layer in one direction.

Its LSTM is oneDNN's where that can compute it. Its RNN and GRU are right too, and slow.
"""

import functools
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

_ONE_LAYER: dict[str, Any] = {
    "has_biases": True,
    "num_layers": 1,
    "dropout": 0.0,
    "bidirectional": False,
    "batch_first": False,
}


def torch_lstm(
    inputs: Tensor, state: tuple[Tensor, Tensor], weights: list[Tensor], *, train: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs [time, batch, hidden], last hidden and last cell state [1, batch, hidden]."""
    with nullcontext() if _is_made(inputs.dtype) else torch.backends.mkldnn.flags(enabled=False):
        output, h, c = torch._VF.lstm(inputs, state, weights, train=train, **_ONE_LAYER)
    return output, h, c


def torch_rnn(
    mode: str, inputs: Tensor, h: Tensor, weights: list[Tensor], *, train: bool
) -> Tensor:
    """Outputs [time, batch, hidden] of the "GRU" or "RNN_TANH"; h [1, batch, hidden]."""
    run = torch._VF.gru if mode == "GRU" else torch._VF.rnn_tanh
    output: Tensor
    output, _ = run(inputs, h, weights, train=train, **_ONE_LAYER)
    return output


@functools.cache
def _is_made(dtype: torch.dtype) -> bool:
    """Whether oneDNN makes an LSTM of that type where torch asks it to.

    Without AVX-512 it has none of bfloat16. torch 2.3 does not look, later ones do.
    """
    one = torch.zeros(1, 1, 1, dtype=dtype)
    weights = [torch.zeros(4, 1, dtype=dtype)] * 2 + [torch.zeros(4, dtype=dtype)] * 2
    try:
        torch._VF.lstm(one, (one, one), weights, True, 1, 0.0, False, False, False)
    except RuntimeError:
        return False
    return True
