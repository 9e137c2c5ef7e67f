"""Run a layer step by step and keep every value of its cell, and measure gradients over the steps.

Slow, and for looking: which gate opened at which word, how far a gradient reaches back. The loop is
the one that defines the layers, `rnn_lab.models.reference.reference_steps`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.functional import check_layer_inputs, reversal_index, reverse, zero_padding
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.reference import reference_steps


@dataclass(frozen=True)
class DirectionTrace:
    """What one direction of one layer computed.

    `steps` are in the order in which the direction reads: a backward direction starts at each
    sequence's last real token. They are those of `reference_steps`, so that
    `torch.autograd.grad(loss, [step["h"] for step in steps])` is the whole dL/dh_t.
    """

    layer: int  # from 0, the lowest
    backward: bool
    lengths: Tensor  # [batch]
    steps: list[dict[str, Tensor]]  # one per time step: the cell's values [batch, hidden] by name

    def values(self, name: str) -> Tensor:
        """Return the value `name` of every step, [batch, time, hidden], in the order of the tokens.

        Zero beyond each length. Differentiable.
        """
        values = torch.stack([step[name] for step in self.steps])  # [time, batch, hidden]
        if self.backward:
            values = reverse(values, reversal_index(self.lengths, len(values)))
        return zero_padding(values, self.lengths).transpose(0, 1)


def trace(
    layer: RecurrentLayer, inputs: Tensor, lengths: Tensor, initial_state: Any = None
) -> list[DirectionTrace]:
    """Run `layer` over the real steps of every sequence, without its dropout.

    Arguments and errors are those of the layer's `forward`. Returns one trace per layer and
    direction, in torch's order: layer 0 forward, layer 0 backward, layer 1 forward and so on.
    """
    lengths, state = check_layer_inputs(layer, inputs, lengths, initial_state)
    lengths = lengths.to(inputs.device)
    order = reversal_index(lengths, inputs.shape[1])
    traces: list[DirectionTrace] = []
    for depth in range(layer.num_layers):
        directions: list[DirectionTrace] = []
        for backward in (False, True)[: layer.directions]:
            index = len(traces) + len(directions)
            source = inputs.transpose(0, 1)  # [time, batch, features]
            source = reverse(source, order) if backward else source
            start = tuple(part[index] for part in state)
            steps = reference_steps(layer.cell, source, lengths, start, layer.weights(index))
            directions.append(DirectionTrace(depth, backward, lengths, list(steps)))
        inputs = torch.cat([direction.values("h") for direction in directions], dim=2)
        traces += directions
    return traces


def logits_with_trace(
    classifier: RecurrentClassifier, tokens: Tensor, lengths: Tensor
) -> tuple[Tensor, list[DirectionTrace]]:
    """Return the logits [batch, num_classes] of a classifier, and the traces they come from.

    Arguments are those of its `forward`. It runs without dropout, whatever its mode; which logits
    of n-grams are added depends on the mode, as there.
    """
    traces = trace(classifier.recurrent, classifier.embed(tokens), lengths)
    top = traces[-classifier.recurrent.directions :]
    outputs = torch.cat([direction.values("h") for direction in top], dim=2)
    logits = classifier.linear(classifier.pool(outputs, lengths))  # [batch, num_classes]
    return classifier.add_ngrams(logits, tokens, lengths), traces


class GradientNorms(NamedTuple):
    """Of one direction of one layer. Entry d is of the step d before its last one."""

    layer: int  # from 0, the lowest
    backward: bool
    norms: Tensor  # [time], the mean over the sequences that are longer than d
    sequences: Tensor  # int64 [time], the number of those


def gradient_norms(
    classifier: RecurrentClassifier, tokens: Tensor, lengths: Tensor, labels: Tensor
) -> list[GradientNorms]:
    """Return the L2 norm of dL/dh_t for the loss L of each sequence alone, without dropout.

    The gradient is the total one, through every later step and layer: a product of Jacobians
    dh_{s+1}/dh_s, which shrinks or grows exponentially with their number (Bengio, Simard and
    Frasconi 1994, section 4; Pascanu, Mikolov and Bengio 2013, equations 3 to 5). Distance counts
    from each sequence's own end: the last real token for a forward direction, the first one for a
    backward direction. The `grad` of parameters is not changed.

    `tokens` are int64 [batch, time], padded on the right, with lengths [batch], the longest of them
    time, and labels [batch, ...]. In float32, gradients below 1e-38 are rounded to 0. Returns one
    entry per layer and direction, in torch's order.
    """
    with torch.enable_grad():
        logits, traces = logits_with_trace(classifier, tokens, lengths)
        # Sequences are independent: the gradient of the sum is that of each one's loss.
        loss = classifier.task.losses(logits, labels).sum()
        states = [step["h"] for trace in traces for step in trace.steps]
        gradients = torch.stack(torch.autograd.grad(loss, states))
    time = len(traces[0].steps)
    # In float64, which can represent the squares of small numbers.
    norms = gradients.double().norm(dim=2).view(len(traces), time, -1)  # [traces, time, batch]

    steps = lengths - 1 - torch.arange(time, device=lengths.device)[:, None]  # [distance, batch]
    is_real = steps >= 0
    sequences = is_real.sum(dim=1)  # [distance]
    places = steps.clamp(min=0)
    means = [one.gather(0, places).where(is_real, 0).sum(dim=1) / sequences for one in norms]
    return [
        GradientNorms(trace.layer, trace.backward, mean, sequences)
        for trace, mean in zip(traces, means, strict=True)
    ]
