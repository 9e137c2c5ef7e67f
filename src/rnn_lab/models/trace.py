"""A layer run step by step through its cell, every gate of every step kept.

Slow, and for looking: which gate opened at which word, how far a gradient reaches back. What comes
out equals the fast layers of rnn_lab.models.layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rnn_lab.models.cells.gru import GRUStep, gru_step
from rnn_lab.models.cells.lstm import LSTMStep, lstm_step
from rnn_lab.models.cells.rnn import RNNStep, rnn_step
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.layers import GRU, LSTM, RNN, State
from rnn_lab.models.pooling import pool
from rnn_lab.models.reverse import reversal_index, reverse

Step = RNNStep | LSTMStep | GRUStep


@dataclass(frozen=True)
class DirectionTrace:
    """What one direction of one layer computed.

    `steps` stand in the order in which the direction reads: a backward direction starts at each
    sequence's last real token. The h of a step (and the C) is the tensor that the next step reads,
    so that `torch.autograd.grad(loss, [step.h for step in steps])` are the whole dL/dh_t. Beyond a
    sequence's end its state stays as it was, and gradients pass straight through.
    """

    layer: int  # from 0, the lowest
    backward: bool
    lengths: Tensor  # [batch]
    steps: list[Step]  # one a time step, values [batch, hidden]

    def values(self, name: str) -> Tensor:
        """The value `name` of every step, [batch, time, hidden], in the order of the tokens.

        Zero beyond each length. Differentiable.
        """
        values = torch.stack([getattr(step, name) for step in self.steps])  # [time, batch, hidden]
        if self.backward:
            values = reverse(values, reversal_index(self.lengths, len(values)))
        padding = torch.arange(len(values), device=values.device)[:, None] >= self.lengths
        return values.masked_fill(padding[:, :, None], 0).transpose(0, 1)


def trace(
    layer: RNN | LSTM | GRU, inputs: Tensor, lengths: Tensor, initial_state: Any = None
) -> list[DirectionTrace]:
    """Run `layer` over the real steps of every sequence, without its dropout.

    Args:
        layer: one of ours, of any depth, in one or both directions.
        inputs: [batch, time, input_size], right-padded.
        lengths: integers [batch], each from 1 to time.
        initial_state: as the layer's own; None is zeros.

    Returns:
        one trace a layer and direction, in torch's order: layer 0 forward, layer 0 backward,
        layer 1 forward and so on.

    Raises:
        ValueError: a length below 1 or beyond time, or a wrong shape; names the argument.
    """
    lengths, state = layer._check(inputs, lengths, initial_state)
    lengths = lengths.to(inputs.device)
    order = reversal_index(lengths, inputs.shape[1])
    traces: list[DirectionTrace] = []
    for depth in range(layer.num_layers):
        directions: list[DirectionTrace] = []
        for backward in (False, True)[: 1 + layer.bidirectional]:
            index = len(traces) + len(directions)
            source = inputs.transpose(0, 1)  # [time, batch, features]
            source = reverse(source, order) if backward else source
            start = tuple(part[index] for part in state)
            steps = _read(_cell(layer, index), source, lengths, start)
            directions.append(DirectionTrace(depth, backward, lengths, steps))
        inputs = torch.cat([direction.values("h") for direction in directions], dim=2)
        traces += directions
    return traces


def logits_with_trace(
    classifier: RecurrentClassifier, tokens: Tensor, lengths: Tensor
) -> tuple[Tensor, list[DirectionTrace]]:
    """The logits of a classifier in evaluation mode, and the traces that they come from.

    Args:
        classifier: without its dropout, whatever its mode.
        tokens: int64 [batch, time], padded on the right.
        lengths: integers [batch], each from 1 to time.

    Returns:
        logits [batch, num_classes], equal to the classifier's, and one trace a layer and direction.

    Raises:
        ValueError: a length is out of range.
    """
    traces = trace(classifier.recurrent, classifier.embed(tokens), lengths)
    highest = traces[-2:] if classifier.bidirectional else traces[-1:]
    outputs = torch.cat([direction.values("h") for direction in highest], dim=2)
    pooled = pool(outputs, lengths, classifier.pooling, classifier.bidirectional)
    return classifier.linear(pooled), traces


def _cell(layer: RNN | LSTM | GRU, index: int) -> Callable[..., Step]:
    """The step of one direction of one layer, as a function of the input and the state."""
    weights = layer.all_weights[index]
    if isinstance(layer, LSTM):
        return partial(lstm_step, weights=weights)
    if isinstance(layer, GRU):
        return partial(gru_step, weights=weights, reset=layer.reset)
    return partial(rnn_step, weights=weights)


def _read(cell: Callable[..., Step], inputs: Tensor, lengths: Tensor, state: State) -> list[Step]:
    """Step through inputs [time, batch, features] from `state`, parts of [batch, hidden]."""
    names = ("h", "C")[: len(state)]
    steps: list[Step] = []
    for time, x in enumerate(inputs):
        step = cell(x, *state)
        real = (time < lengths)[:, None]  # [batch, 1]
        state = tuple(
            torch.where(real, getattr(step, name), before)
            for name, before in zip(names, state, strict=True)
        )
        steps.append(step._replace(**dict(zip(names, state, strict=True))))
    return steps
