"""minLSTM (Feng et al. 2024, "Were RNNs All We Needed?", section 3.2)."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from rnn_lab.models.cells import Cell, State, Value, Weights, register_cell
from rnn_lab.models.fast.linear_scan import linear_scan
from rnn_lab.models.fast.paths import register_fast_path
from rnn_lab.models.layers import RecurrentLayer as Layer


@register_cell("minlstm")
class MinLSTMCell(Cell):
    r"""An LSTM whose gates and candidate see the input only, and whose gates sum to 1.

        f_t = sigmoid(W_f x_t + b_f)                forget gate
        i_t = sigmoid(W_i x_t + b_i)                input gate
        h~_t = W_h x_t + b_h                        candidate
        f'_t = f_t / (f_t + i_t),  i'_t = i_t / (f_t + i_t)
        h_t = f'_t * h_{t-1} + i'_t * h~_t          hidden state

    The values f and i are f' and i'. Rows of the weights: forget, input, candidate.
    """

    gates = 3
    values: ClassVar = {
        "f": Value("gate", "forget gate $f$: how much a unit keeps", ("forgets", "keeps")),
        "i": Value("gate", "input gate $i = 1 - f$: how much of the candidate enters"),
        "h_tilde": Value("candidate", r"candidate $\tilde{h}$: what the word would write"),
        "h": Value("state", r"hidden state $h = f \, h_{before} + i \, \tilde{h}$: the memory"),
    }

    def weight_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of W and b; there is no U."""
        return {"weight_ih": (3 * hidden_size, input_size), "bias_ih": (3 * hidden_size,)}

    def step(self, x: Tensor, state: State, weights: Weights) -> dict[str, Tensor]:
        """Compute h_t from x_t and h_{t-1}."""
        (h,) = state
        W_f, W_i, W_h = weights["weight_ih"].chunk(3)
        b_f, b_i, b_h = weights["bias_ih"].chunk(3)

        f, i = _shares(x @ W_f.T + b_f, x @ W_i.T + b_i)
        h_tilde = x @ W_h.T + b_h
        h = f * h + i * h_tilde
        return {"f": f, "i": i, "h_tilde": h_tilde, "h": h}


def _shares(forget: Tensor, enter: Tensor) -> tuple[Tensor, Tensor]:
    """Return f' and i' of the arguments of the two sigmoids.

    f / (f + i) = sigmoid(log f - log i), which is a number even where both gates are rounded to 0.
    """
    difference = F.logsigmoid(forget) - F.logsigmoid(enter)
    return torch.sigmoid(difference), torch.sigmoid(-difference)


@register_fast_path(MinLSTMCell)
def scan(
    layer: Layer, inputs: Tensor, lengths: Tensor, state: State, weights: Weights
) -> tuple[Tensor, State]:
    """Run a direction as one matrix product for all steps, then a scan."""
    W, b = (weight.to(inputs.dtype) for weight in weights.values())
    # Near 1, bfloat16 has steps of 1/256: a unit that keeps 0.999 would keep everything.
    exact = torch.promote_types(inputs.dtype, torch.float32)
    forget, enter, h_tilde = F.linear(inputs, W, b).to(exact).chunk(3, dim=-1)
    f, i = _shares(forget, enter)
    outputs, last = linear_scan(f, i * h_tilde, state[0], lengths, use_numba=layer.use_numba)
    return outputs, (last,)
