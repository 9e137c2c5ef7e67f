"""minGRU (Feng et al. 2024, "Were RNNs All We Needed?", section 3.1)."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_lab.models.cells import Cell, State, Value, Weights, register_cell
from rnn_lab.models.fast.linear_scan import linear_scan
from rnn_lab.models.fast.paths import register_fast_path
from rnn_lab.models.layers import RecurrentLayer as Layer


@register_cell("mingru")
class MinGRUCell(Cell):
    r"""A GRU whose gate and candidate see the input only.

        z_t = sigmoid(W_z x_t + b_z)                update gate
        h~_t = W_h x_t + b_h                        candidate
        h_t = (1 - z_t) * h_{t-1} + z_t * h~_t      hidden state

    Rows of the weights: update, candidate.
    """

    gates = 2
    values: ClassVar = {
        "z": Value("gate", "update gate $z$: how much of a unit is new", ("keeps", "replaces")),
        "h_tilde": Value("candidate", r"candidate $\tilde{h}$: what the word would put there"),
        "h": Value("state", r"hidden state $h = (1-z) \, h_{before} + z \, \tilde{h}$: the memory"),
    }

    def weight_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of W and b; there is no U."""
        return {"weight_ih": (2 * hidden_size, input_size), "bias_ih": (2 * hidden_size,)}

    def step(self, x: Tensor, state: State, weights: Weights) -> dict[str, Tensor]:
        """Compute h_t from x_t and h_{t-1}."""
        (h,) = state
        W_z, W_h = weights["weight_ih"].chunk(2)
        b_z, b_h = weights["bias_ih"].chunk(2)

        z = torch.sigmoid(x @ W_z.T + b_z)
        h_tilde = x @ W_h.T + b_h
        h = (1 - z) * h + z * h_tilde
        return {"z": z, "h_tilde": h_tilde, "h": h}


@register_fast_path(MinGRUCell)
def scan(
    layer: Layer, inputs: Tensor, lengths: Tensor, state: State, weights: Weights
) -> tuple[Tensor, State]:
    """Run a direction as one matrix product for all steps, then a scan."""
    W, b = (weight.to(inputs.dtype) for weight in weights.values())
    # Near 1, bfloat16 has steps of 1/256: a unit that keeps 0.999 would keep everything.
    exact = torch.promote_types(inputs.dtype, torch.float32)
    gate, h_tilde = F.linear(inputs, W, b).to(exact).chunk(2, dim=-1)
    z = torch.sigmoid(gate)
    outputs, last = linear_scan(1 - z, z * h_tilde, state[0], lengths, use_numba=layer.use_numba)
    return outputs, (last,)
