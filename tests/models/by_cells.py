"""A layer through its cell's steps: the reference that layers are held to."""

import torch

from rnn_lab.models.trace import trace


def by_cells(layer, inputs, lengths, state=None):
    """Outputs and final state, as the layer's own forward gives them."""
    traces = trace(layer, inputs, lengths, state)
    top = traces[-(1 + layer.bidirectional) :]
    outputs = torch.cat([direction.values("h") for direction in top], dim=2)
    final = tuple(
        torch.stack([direction.steps[-1][name] for direction in traces])
        for name in layer.cell.states
    )
    return outputs, final if len(final) > 1 else final[0]
