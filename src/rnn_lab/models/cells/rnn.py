"""One step of the plain recurrent network (Elman 1990).

    h_t = tanh(W x_t + b + U h_{t-1} + c)

Elman copies the hidden units back as "context units" and squashes with the logistic function; tanh
is what is used since, and what torch.nn.RNN has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class RNNStep(NamedTuple):
    """The values of one step, [batch, hidden]."""

    h: Tensor  # hidden state


def rnn_step(x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> RNNStep:
    """From the input x [batch, input] and the state h [batch, hidden] to the next state.

    Args:
        x: [batch, input].
        h: h_{t-1}, [batch, hidden].
        weights: weight_ih [hidden, input], weight_hh [hidden, hidden], bias_ih, bias_hh [hidden].
    """
    W, U, b, c = weights

    h = torch.tanh(x @ W.T + b + h @ U.T + c)
    return RNNStep(h)
