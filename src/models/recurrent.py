"""RNN, LSTM and GRU over sequences of different lengths, without packing.

torch.nn's layers on packed sequences are right but many times slower on a CPU than on one padded
block. Padding stands on the right, so that a forward direction over the block is right on every
real step, and a backward direction is a forward one over each sequence reversed within its own
length. What the padding computed is set to zero, and no gradient reaches it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from src.models.gru_function import GRUFunction
from src.models.reverse import reversal, reverse
from src.models.rnn_function import RNNFunction

# Added to a gate's pre-activation, it makes the sigmoid exactly 0 or 1 in every precision.
SATURATED = 1e4

State = tuple[Tensor, ...]


class _VariableLength(nn.RNNBase):
    """What the three layers share; a subclass says how one direction of one layer runs."""

    state_names: tuple[str, ...] = ("initial_state",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,  # type: ignore[arg-type]
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
        )

    def forward(
        self, inputs: Tensor, lengths: Tensor, initial_state: Any = None
    ) -> tuple[Tensor, Any]:
        """Run over the real steps of every sequence.

        Args:
            inputs: [batch, time, input_size], right-padded. A transposed view of memory that lies
                [time, batch, input_size] is read without a copy.
            lengths: integers [batch], each from 1 to time.
            initial_state: as torch.nn's, [num_layers * directions, batch, hidden_size] (for the
                LSTM a pair of them); None is zeros.

        Returns:
            outputs [batch, time, directions * hidden_size], zero beyond each length, and the final
            state at each last real step, shaped as initial_state: torch's results for the packed
            sequences.

        Raises:
            ValueError: a length below 1 or beyond time, or a wrong shape; names the argument.
        """
        self._check_inputs(inputs, lengths)
        state = self._check_state(initial_state, inputs)
        if inputs.device.type != "cpu":
            return self._forward_packed(inputs, lengths, initial_state)
        lengths = lengths.to(inputs.device)
        real = torch.arange(inputs.shape[1])[:, None] < lengths  # [time, batch]
        order = reversal(lengths, inputs.shape[1]) if self.bidirectional else lengths
        outputs = inputs.transpose(0, 1)  # [time, batch, input_size]
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                outputs = nn.functional.dropout(outputs, self.dropout, self.training)
            directions = []
            for backward in range(1 + self.bidirectional):
                index = len(finals)
                source = reverse(outputs, order) if backward else outputs
                start = tuple(part[index] for part in state)
                output, final = self._run(
                    source, real, lengths, start, tuple(self.all_weights[index])
                )
                directions.append(reverse(output, order) if backward else output)
                finals.append(final)
            outputs = torch.cat(directions, dim=2) if self.bidirectional else directions[0]
        final_state = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        return outputs.transpose(0, 1), final_state if len(final_state) > 1 else final_state[0]

    def _run(
        self,
        inputs: Tensor,
        real: Tensor,
        lengths: Tensor,
        start: State,
        weights: tuple[Tensor, ...],
    ) -> tuple[Tensor, State]:
        """One direction of one layer: inputs [time, batch, features] to outputs, final state."""
        raise NotImplementedError

    def _forward_packed(
        self, inputs: Tensor, lengths: Tensor, initial_state: Any
    ) -> tuple[Tensor, Any]:
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, final_state = super().forward(packed, initial_state)
        padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
        return padded, final_state

    def _check_inputs(self, inputs: Tensor, lengths: Tensor) -> None:
        if inputs.dim() != 3 or inputs.shape[2] != self.input_size:
            raise ValueError(
                f"inputs must be [batch, time, {self.input_size}], got {list(inputs.shape)}"
            )
        batch, time, _ = inputs.shape
        if lengths.is_floating_point() or list(lengths.shape) != [batch]:
            raise ValueError(
                f"lengths must be integers [{batch}], one for each sequence of inputs, "
                f"got {lengths.dtype} {list(lengths.shape)}"
            )
        if batch == 0:
            raise ValueError("inputs must hold at least one sequence, got none")
        shortest, longest = (int(bound) for bound in lengths.aminmax())
        if shortest < 1 or longest > time:
            raise ValueError(
                f"lengths must be from 1 to the {time} steps of inputs, got {shortest} to {longest}"
            )

    def _check_state(self, initial_state: Any, inputs: Tensor) -> State:
        rows = self.num_layers * (1 + self.bidirectional)
        shape = (rows, inputs.shape[0], self.hidden_size)
        parts = len(self.state_names)
        if initial_state is None:
            return (inputs.new_zeros(shape, dtype=self.all_weights[0][0].dtype),) * parts
        state = (initial_state,) if isinstance(initial_state, Tensor) else tuple(initial_state)
        if len(state) != parts or any(tuple(part.shape) != shape for part in state):
            found = ", ".join(str(list(part.shape)) for part in state)
            raise ValueError(
                f"initial_state must be {' and '.join([str(list(shape))] * parts)}, got {found}"
            )
        return state


def _last_real(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The output at each sequence's last real step: [time, batch, hidden] to [batch, hidden]."""
    return outputs[lengths - 1, torch.arange(len(lengths))]


def _precision(weights: State) -> tuple[torch.dtype, bool]:
    """The type of matrix products, as autocast wants it, and whether a gradient may be asked."""
    dtype = weights[0].dtype
    if torch.is_autocast_enabled("cpu") and dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
    return dtype, torch.is_grad_enabled()


class RNN(_VariableLength, nn.RNN):  # type: ignore[misc]  # takes lengths, not packing
    """Elman's network (Elman 1990) with tanh, as torch.nn.RNN."""

    def _run(
        self, inputs: Tensor, real: Tensor, lengths: Tensor, start: State, weights: State
    ) -> tuple[Tensor, State]:
        outputs, last = RNNFunction.apply(inputs, lengths, *start, *weights, *_precision(weights))
        return outputs, (last,)


class GRU(_VariableLength, nn.GRU):  # type: ignore[misc]  # takes lengths, not packing
    """Gated recurrent unit (Cho et al. 2014), in the form of torch.nn.GRU."""

    def _run(
        self, inputs: Tensor, real: Tensor, lengths: Tensor, start: State, weights: State
    ) -> tuple[Tensor, State]:
        outputs, last = GRUFunction.apply(inputs, lengths, *start, *weights, *_precision(weights))
        return outputs, (last,)


class LSTM(_VariableLength, nn.LSTM):  # type: ignore[misc]  # takes lengths, not packing
    """Long short-term memory with forget gates (Gers et al. 2000), as torch.nn.LSTM.

    The library returns the cell state of the last padded step only. So the padding is told to
    keep it: one more input, 1 on the padding and 0 elsewhere, whose weights open the forget gate
    and close the input gate until they are exactly 1 and 0.
    """

    state_names = ("h", "c")

    def _run(
        self,
        inputs: Tensor,
        real: Tensor,
        lengths: Tensor,
        start: State,
        weights: tuple[Tensor, ...],
    ) -> tuple[Tensor, State]:
        h, c = start
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        inputs = torch.cat([inputs, (~real)[:, :, None].to(inputs.dtype)], dim=2)
        keep = weight_ih.new_zeros(4, self.hidden_size)  # input, forget, cell, output
        keep[0], keep[1] = -SATURATED, SATURATED
        weight_ih = torch.cat([weight_ih, keep.view(-1, 1)], dim=1)
        outputs, _, c = torch._VF.lstm(
            inputs,
            (h[None], c[None]),
            [weight_ih, weight_hh, bias_ih, bias_hh],
            True,
            1,
            0.0,
            self.training,
            False,
            False,
        )
        outputs = outputs * real[:, :, None]
        return outputs, (_last_real(outputs, lengths), c[0])
