"""Measure how far back a gradient reaches: the norm of dL/dh_t by distance from the end.

The gradient is the total one, through every later step and layer: a product of Jacobians
dh_{s+1}/dh_s, which shrinks or grows exponentially with their number (Bengio, Simard and Frasconi
1994, section 4; Pascanu, Mikolov and Bengio 2013, equations 3 to 5).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.trace import logits_with_trace


class GradientNorms(NamedTuple):
    """One direction of one layer. Entry d is of the step d before its last one."""

    layer: int  # from 0, the lowest
    backward: bool
    norms: Tensor  # [time], the mean over the sequences that are longer than d
    sequences: Tensor  # int64 [time], the number of those


def gradient_norms(
    classifier: RecurrentClassifier, tokens: Tensor, lengths: Tensor, labels: Tensor
) -> list[GradientNorms]:
    """Return the L2 norm of dL/dh_t for the loss L of each sequence alone, without dropout.

    Distance counts from each sequence's own end: the last real token for a forward direction, the
    first one for a backward direction. The `grad` of parameters is not changed.

    Args:
        classifier: of any float type; in float32, gradients below 1e-38 are rounded to 0.
        tokens: int64 [batch, time], padded on the right.
        lengths: int64 [batch], the longest of them time.
        labels: int64 [batch].

    Returns:
        One entry per layer and direction, in torch's order.
    """
    with torch.enable_grad():
        logits, traces = logits_with_trace(classifier, tokens, lengths)
        # Sequences are independent: the gradient of the sum is that of each one's loss.
        loss = cross_entropy(logits, labels, reduction="sum")
        states = [step["h"] for trace in traces for step in trace.steps]
        gradients = torch.stack(torch.autograd.grad(loss, states))
    time = len(traces[0].steps)
    # In float64, which can represent the squares of small numbers.
    norms = gradients.double().norm(dim=2).view(len(traces), time, -1)  # [traces, time, batch]

    steps = lengths - 1 - torch.arange(time, device=lengths.device)[:, None]  # [distance, batch]
    is_real = steps >= 0
    sequences = is_real.sum(dim=1)  # [distance]
    by_distance = [
        one.gather(0, steps.clamp(min=0)).where(is_real, 0).sum(dim=1) / sequences for one in norms
    ]
    return [
        GradientNorms(trace.layer, trace.backward, mean, sequences)
        for trace, mean in zip(traces, by_distance, strict=True)
    ]
