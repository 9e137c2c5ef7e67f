"""LSTM with peepholes (Gers and Schmidhuber 2000, "Recurrent nets that time and count")."""

import torch
from torch import Tensor

from rnn_lab.models.cells import LSTMCell, State, Weights, register_cell
from rnn_lab.models.config import LSTMConfig


@register_cell("peephole_lstm", LSTMConfig)
class PeepholeLSTMCell(LSTMCell):
    """An LSTM whose gates see the cell state, each unit its own.

        f_t = sigmoid(W_f x_t + b_f + U_f h_{t-1} + c_f + p_f * C_{t-1})
        i_t = sigmoid(W_i x_t + b_i + U_i h_{t-1} + c_i + p_i * C_{t-1})
        C~_t = tanh(W_C x_t + b_C + U_C h_{t-1} + c_C)
        C_t = f_t * C_{t-1} + i_t * C~_t
        o_t = sigmoid(W_o x_t + b_o + U_o h_{t-1} + c_o + p_o * C_t)
        h_t = o_t * tanh(C_t)

    The output gate sees the new cell state. Rows of the peepholes: input, forget, output; of the
    other weights as in LSTMCell.
    """

    def weight_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of an LSTM's weights and of the peepholes."""
        return super().weight_shapes(input_size, hidden_size) | {"peephole": (3 * hidden_size,)}

    def step(self, x: Tensor, state: State, weights: Weights) -> dict[str, Tensor]:
        """Compute h_t and C_t from x_t, h_{t-1} and C_{t-1}."""
        h, C = state
        W_i, W_f, W_C, W_o = weights["weight_ih"].chunk(4)
        U_i, U_f, U_C, U_o = weights["weight_hh"].chunk(4)
        b_i, b_f, b_C, b_o = weights["bias_ih"].chunk(4)
        c_i, c_f, c_C, c_o = weights["bias_hh"].chunk(4)
        p_i, p_f, p_o = weights["peephole"].chunk(3)

        f = torch.sigmoid(x @ W_f.T + b_f + h @ U_f.T + c_f + p_f * C)
        i = torch.sigmoid(x @ W_i.T + b_i + h @ U_i.T + c_i + p_i * C)
        C_tilde = torch.tanh(x @ W_C.T + b_C + h @ U_C.T + c_C)
        C = f * C + i * C_tilde
        o = torch.sigmoid(x @ W_o.T + b_o + h @ U_o.T + c_o + p_o * C)
        h = o * torch.tanh(C)
        return {"f": f, "i": i, "C_tilde": C_tilde, "C": C, "o": o, "h": h}
