"""One step of the gated recurrent unit, in its two forms.

    r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)         reset gate
    z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)         update gate
    h~_t = tanh(W_h x_t + b_h + U_h (r_t * h_{t-1}) + c_h)   candidate
    h_t = (1 - z_t) * h_{t-1} + z_t * h~_t                   hidden state

These are the equations of Chung et al. (2014, section 3.2), with biases, and of most tutorials. The
sources differ in two things:

                          reset gate                         h_t
    Cho et al. (2014)     before the product: U (r * h)      z * h_{t-1} + (1 - z) * h~
    Chung et al. (2014)   before the product: U (r * h)      (1 - z) * h_{t-1} + z * h~
    torch.nn.GRU, cuDNN   after the product: r * (U h + c)   z * h_{t-1} + (1 - z) * h~

(Cho et al.: eq. 5 to 8 as published. The first version of their preprint, arXiv 1406.1078v1, had
the reset gate after the product.)

Which of z and 1 - z is called z changes no network, only the sign of its rows of weights, since
1 - sigmoid(a) = sigmoid(-a). Where the reset gate stands does: after the product it scales each
unit's view of the whole state, before it each unit of the state that all units see.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class GRUStep(NamedTuple):
    """The values of one step, each [batch, hidden]."""

    z: Tensor  # update gate, 0 to 1: the share of the new candidate, in both forms
    r: Tensor  # reset gate, 0 to 1
    h_tilde: Tensor  # candidate, -1 to 1
    h: Tensor  # hidden state


def gru_step(
    x: Tensor, h: Tensor, weights: Sequence[Tensor], reset: Literal["before", "after"]
) -> GRUStep:
    """From the input x [batch, input] and the state h [batch, hidden] to the next state.

    Args:
        x: [batch, input].
        h: h_{t-1}, [batch, hidden].
        weights: weight_ih [3 * hidden, input], weight_hh [3 * hidden, hidden], bias_ih and bias_hh
            [3 * hidden], their rows in torch's order: r, z, candidate.
        reset: "before" are the equations above; "after" is torch.nn.GRU, whose rows of z give the
            share of the old state, 1 - z.

    Raises:
        ValueError: `reset` is neither.
    """
    if reset not in ("before", "after"):
        raise ValueError(f"reset={reset}: impossible value. Choose from: before, after")
    W_r, W_z, W_h = weights[0].chunk(3)
    U_r, U_z, U_h = weights[1].chunk(3)
    b_r, b_z, b_h = weights[2].chunk(3)
    c_r, c_z, c_h = weights[3].chunk(3)

    r = torch.sigmoid(x @ W_r.T + b_r + h @ U_r.T + c_r)
    z = torch.sigmoid(x @ W_z.T + b_z + h @ U_z.T + c_z)
    if reset == "before":
        h_tilde = torch.tanh(x @ W_h.T + b_h + (r * h) @ U_h.T + c_h)
    else:
        z = 1 - z  # what torch calls z is the share of the old state
        h_tilde = torch.tanh(x @ W_h.T + b_h + r * (h @ U_h.T + c_h))
    h = (1 - z) * h + z * h_tilde
    return GRUStep(z, r, h_tilde, h)
