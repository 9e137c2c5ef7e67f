"""One step of long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates.

    f_t = sigmoid(W_f x_t + b_f + U_f h_{t-1} + c_f)         forget gate (Gers et al. 2000)
    i_t = sigmoid(W_i x_t + b_i + U_i h_{t-1} + c_i)         input gate
    C~_t = tanh(W_C x_t + b_C + U_C h_{t-1} + c_C)           candidate
    C_t = f_t * C_{t-1} + i_t * C~_t                         cell state
    o_t = sigmoid(W_o x_t + b_o + U_o h_{t-1} + c_o)         output gate
    h_t = o_t * tanh(C_t)                                    hidden state

The paper of 1997 has no forget gate: its cell state only ever adds, f_t = 1. Gers, Schmidhuber and
Cummins (2000) let it forget. No peepholes, as in torch.nn.LSTM.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LSTMStep(NamedTuple):
    """The values of one step, each [batch, hidden]."""

    f: Tensor  # forget gate, 0 to 1
    i: Tensor  # input gate, 0 to 1
    C_tilde: Tensor  # candidate, -1 to 1
    C: Tensor  # cell state
    o: Tensor  # output gate, 0 to 1
    h: Tensor  # hidden state, -1 to 1


def lstm_step(x: Tensor, h: Tensor, C: Tensor, weights: Sequence[Tensor]) -> LSTMStep:
    """From the input x [batch, input] and the states h and C [batch, hidden] to the next ones.

    Args:
        x: [batch, input].
        h: h_{t-1}, [batch, hidden].
        C: C_{t-1}, [batch, hidden].
        weights: weight_ih [4 * hidden, input], weight_hh [4 * hidden, hidden], bias_ih and bias_hh
            [4 * hidden], their rows in torch's order: input, forget, candidate, output.
    """
    W_i, W_f, W_C, W_o = weights[0].chunk(4)
    U_i, U_f, U_C, U_o = weights[1].chunk(4)
    b_i, b_f, b_C, b_o = weights[2].chunk(4)
    c_i, c_f, c_C, c_o = weights[3].chunk(4)

    f = torch.sigmoid(x @ W_f.T + b_f + h @ U_f.T + c_f)
    i = torch.sigmoid(x @ W_i.T + b_i + h @ U_i.T + c_i)
    C_tilde = torch.tanh(x @ W_C.T + b_C + h @ U_C.T + c_C)
    C = f * C + i * C_tilde
    o = torch.sigmoid(x @ W_o.T + b_o + h @ U_o.T + c_o)
    h = o * torch.tanh(C)
    return LSTMStep(f, i, C_tilde, C, o, h)
