"""Run a layer step by step and keep every value of its cell at every step.

Slow, and for looking: which gate opened at which word, how far a gradient reaches back. The loop is
the one that defines the layers, `rnn_lab.models.layers.reference_steps`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.layers import RecurrentLayer, reference_steps
from rnn_lab.models.sequences import reversal_index, reverse


@dataclass(frozen=True)
class DirectionTrace:
    """What one direction of one layer computed.

    `steps` are in the order in which the direction reads: a backward direction starts at each
    sequence's last real token. A state in a step is the tensor that the next step reads, so that
    `torch.autograd.grad(loss, [step["h"] for step in steps])` is the whole dL/dh_t. Beyond a
    sequence's end its state stays as it was, and gradients pass straight through.
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
        padding = torch.arange(len(values), device=values.device)[:, None] >= self.lengths
        return values.masked_fill(padding[:, :, None], 0).transpose(0, 1)


def trace(
    layer: RecurrentLayer, inputs: Tensor, lengths: Tensor, initial_state: Any = None
) -> list[DirectionTrace]:
    """Run `layer` over the real steps of every sequence, without its dropout.

    >>> from rnn_lab.models import LSTM
    >>> (direction,) = trace(LSTM(3, 4), torch.zeros(2, 5, 3), torch.tensor([5, 2]))
    >>> list(direction.steps[0])
    ['f', 'i', 'C_tilde', 'C', 'o', 'h']
    >>> direction.values("f").shape
    torch.Size([2, 5, 4])

    Args:
        layer: of any cell and depth, in one or both directions.
        inputs: [batch, time, input_size], right-padded.
        lengths: integers [batch], each from 1 to time.
        initial_state: as for the layer; None is zeros.

    Returns:
        One trace per layer and direction, in torch's order: layer 0 forward, layer 0 backward,
        layer 1 forward and so on.

    Raises:
        ValueError: a length below 1 or beyond time, or a wrong shape; names the argument.
    """
    lengths, state = layer.check_arguments(inputs, lengths, initial_state)
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
    """Return the logits of a classifier in evaluation mode, and the traces they come from.

    Args:
        classifier: runs without its dropout, whatever its mode.
        tokens: int64 [batch, time], padded on the right.
        lengths: integers [batch], each from 1 to time.

    Returns:
        Logits [batch, num_classes], equal to the classifier's, and one trace per layer and
        direction.

    Raises:
        ValueError: a length is out of range.
    """
    traces = trace(classifier.recurrent, classifier.embed(tokens), lengths)
    top = traces[-classifier.recurrent.directions :]
    outputs = torch.cat([direction.values("h") for direction in top], dim=2)
    return classifier.linear(classifier.pool(outputs, lengths)), traces
