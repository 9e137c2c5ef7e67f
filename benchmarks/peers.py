"""torch's own layers, as textbooks and tutorials use them."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_lab.models.config import ModelConfig
from rnn_lab.models.layers import RecurrentLayer

LAYERS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {
    "rnn": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}

Reads = Literal["packed", "padded", "gathered"]


class TextbookClassifier(nn.Module):
    """Embedding, torch's layer, final state, linear layer.

    Packed, the final state is that of the last real token. On the padded block, it includes the
    padding, which is wrong but common in tutorials: it is measured for its speed. Gathered, it is
    the padded block's output at each last token, which is correct in one direction.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, num_classes: int, reads: Reads):
        """Create the layers.

        Raises:
            ValueError: "gathered" in both directions: the backward one starts in the padding.
        """
        super().__init__()
        if reads == "gathered" and config.bidirectional:
            raise ValueError("a backward direction cannot be gathered from a padded block")
        self.reads = reads
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim, padding_idx=0)
        self.recurrent = LAYERS[config.name](
            config.embedding_dim,
            config.hidden_size,
            batch_first=True,
            bidirectional=config.bidirectional,
        )
        directions = 2 if config.bidirectional else 1
        self.linear = nn.Linear(directions * config.hidden_size, num_classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Map tokens int64 [batch, time] and lengths [batch] to logits [batch, num_classes]."""
        inputs = self.embedding(tokens)  # [batch, time, embedding_dim]
        if self.reads == "gathered":
            outputs, _ = self.recurrent(inputs)  # [batch, time, hidden_size]
            return self.linear(outputs[torch.arange(len(lengths)), lengths - 1])
        if self.reads == "packed":
            # The lengths are needed on the CPU, where a GPU's batches have to be copied from.
            inputs = pack_padded_sequence(
                inputs, lengths.cpu(), batch_first=True, enforce_sorted=False
            )
        _, state = self.recurrent(inputs)
        hidden = state[0] if isinstance(state, tuple) else state  # [directions, batch, hidden_size]
        return self.linear(torch.cat(list(hidden), dim=1))  # [batch, num_classes]


class CompiledStepClassifier(nn.Module):
    """The same in one direction, with a loop over time steps that torch.compile compiles.

    The products of the inputs are one for all steps, and the shapes of a step never change, so it
    is compiled once. Compiling a whole layer is no alternative: by default torch.compile leaves
    torch.nn's recurrent layers as they are, and with `torch._dynamo.config.allow_rnn` it unrolls
    them and compiles for minutes per sequence length.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim, padding_idx=0)
        self.recurrent = LAYERS[config.name](
            config.embedding_dim, config.hidden_size, batch_first=True
        )
        self.linear = nn.Linear(config.hidden_size, num_classes)
        self._step = torch.compile(STEPS[config.name], dynamic=False)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Map tokens int64 [batch, time] and lengths [batch] to logits [batch, num_classes]."""
        layer: Any = self.recurrent
        inputs = self.embedding(tokens).transpose(0, 1)  # [time, batch, embedding_dim]
        projected = F.linear(inputs, layer.weight_ih_l0, layer.bias_ih_l0)
        h = inputs.new_zeros(len(tokens), layer.hidden_size)
        c = torch.zeros_like(h)
        outputs = []
        for x in projected.unbind():
            h, c = self._step(x, h, c, layer.weight_hh_l0, layer.bias_hh_l0)
            outputs.append(h)
        last = torch.stack(outputs)[lengths - 1, torch.arange(len(lengths))]
        return self.linear(last)


def _rnn_step(x: Tensor, h: Tensor, c: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.tanh(x + F.linear(h, w, b)), c


def _lstm_step(x: Tensor, h: Tensor, c: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = (x + F.linear(h, w, b)).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_step(x: Tensor, h: Tensor, c: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, dim=1), F.linear(h, w, b).chunk(3, dim=1)
    z = torch.sigmoid(xz + hz)
    n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
    return (1 - z) * n + z * h, c


STEPS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "rnn": _rnn_step,
    "lstm": _lstm_step,
    "gru": _gru_step,
}


class PackedLayer(nn.Module):
    """torch's layer on packed sequences, with the interface and the parameters of ours."""

    def __init__(self, ours: RecurrentLayer) -> None:
        super().__init__()
        self.layer = LAYERS[ours.cell.name](
            ours.input_size,
            ours.hidden_size,
            ours.num_layers,
            batch_first=True,
            dropout=ours.dropout,
            bidirectional=ours.bidirectional,
        )
        for name, parameter in ours.named_parameters():
            setattr(self.layer, name, parameter)

    def forward(self, inputs: Tensor, lengths: Tensor, **_: object) -> tuple[Tensor, None]:
        """Map inputs [batch, time, features] to outputs [batch, time, directions * hidden_size]."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = self.layer(packed)
        time = inputs.shape[1]
        return pad_packed_sequence(outputs, batch_first=True, total_length=time)[0], None

    def last_hidden(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Map inputs [batch, time, features] to final states [batch, directions * hidden_size]."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        _, state = self.layer(packed)
        hidden = state[0] if isinstance(state, tuple) else state
        return torch.cat(list(hidden[-(1 + self.layer.bidirectional) :]), dim=1)
