"""torch's own layers, as textbooks and tutorials use them."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_lab.models.config import ModelConfig
from rnn_lab.models.layers import RecurrentLayer

LAYERS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {
    "rnn": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


class TextbookClassifier(nn.Module):
    """Embedding, torch's layer, final state, linear layer.

    Packed, the final state is that of the last real token. Unpacked, it includes the padding,
    which is wrong but common in tutorials: it is measured for its speed.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, num_classes: int, packed: bool):
        super().__init__()
        self.packed = packed
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
        if self.packed:
            inputs = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        _, state = self.recurrent(inputs)
        hidden = state[0] if isinstance(state, tuple) else state  # [directions, batch, hidden_size]
        return self.linear(torch.cat(list(hidden), dim=1))  # [batch, num_classes]


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
