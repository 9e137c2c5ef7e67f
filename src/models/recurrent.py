"""RNN, LSTM and GRU over sequences of different lengths, without packing.

torch.nn's layers on packed sequences are right but many times slower on a CPU than on one padded
block. Padding stands on the right, so that a forward direction over the block is right on every
real step, and a backward direction is a forward one over each sequence reversed within its own
length. What the padding computed is set to zero, and no gradient reaches it.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from src.models.arguments import State, check_inputs, initial_state_parts
from src.models.autocast import autocast_dtype, is_autocast_enabled
from src.models.cells.gru import gru_step
from src.models.dropout import dropout
from src.models.gru_before_function import GRUBeforeFunction
from src.models.recurrence import GRU_CELL, LSTM_CELL, RNN_CELL, Cell, Recurrence
from src.models.reverse import reversal, reverse


class _VariableLength(nn.RNNBase):
    """What the three layers share."""

    cell: Cell
    state_parts = 1
    in_cudnn = True  # and so fast over packed sequences

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
        self,
        inputs: Tensor,
        lengths: Tensor,
        initial_state: Any = None,
        need_final_state: bool = True,
    ) -> tuple[Tensor, Any]:
        """Run over the real steps of every sequence.

        Args:
            inputs: [batch, time, input_size], right-padded. A transposed view of memory that lies
                [time, batch, input_size] is read without a copy.
            lengths: integers [batch], each from 1 to time.
            initial_state: as torch.nn's, [num_layers * directions, batch, hidden_size] (for the
                LSTM a pair of them); None is zeros.
            need_final_state: False returns None for it.

        Returns:
            outputs [batch, time, directions * hidden_size], zero beyond each length, and the final
            state at each last real step, shaped as initial_state: torch's results for the packed
            sequences. Under autocast both have its type.

        Raises:
            ValueError: a length below 1 or beyond time, or a wrong shape; names the argument.
        """
        lengths, state = self._check(inputs, lengths, initial_state)
        if self._packs(inputs):
            packed_outputs, final_state = self._run_packed(inputs, lengths, initial_state)
            outputs, _ = pad_packed_sequence(
                packed_outputs, batch_first=True, total_length=inputs.shape[1]
            )
            return outputs, final_state if need_final_state else None
        outputs, finals = self._run_layers(inputs, lengths, state)
        if not need_final_state:
            return outputs.transpose(0, 1), None
        parts = tuple(torch.stack(part) for part in zip(*finals, strict=True))
        return outputs.transpose(0, 1), parts if len(parts) > 1 else parts[0]

    def last_hidden(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The top layer's hidden state after all that each of its directions has read.

        Arguments and errors are those of `forward`; it is a part of forward's final state, sooner
        had: the outputs of every step are not made ready for use.

        Returns: [batch, directions * hidden_size].
        """
        lengths, state = self._check(inputs, lengths, None)
        directions = 1 + self.bidirectional
        if self._packs(inputs):
            _, final_state = self._run_packed(inputs, lengths, None)
            hidden = final_state[0] if self.state_parts > 1 else final_state
            return torch.cat(list(hidden[-directions:]), dim=1)
        _, finals = self._run_layers(inputs, lengths, state, need_outputs=False)
        return torch.cat([final[0] for final in finals[-directions:]], dim=1)

    def _run_layers(
        self, inputs: Tensor, lengths: Tensor, state: State, *, need_outputs: bool = True
    ) -> tuple[Tensor, list[State]]:
        """All layers and directions, on a CPU or where cuDNN has no such layer.

        Returns outputs [time, batch, directions * hidden_size], and for each layer and direction
        its final state, parts of [batch, hidden_size].
        """
        lengths = lengths.to(inputs.device)
        product = self._product_type(inputs.device.type)
        order = reversal(lengths, inputs.shape[1]) if self.bidirectional else lengths
        outputs = inputs.transpose(0, 1).to(product)  # [time, batch, input_size]
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                outputs = dropout(outputs, self.dropout, self.training)
            directions = []
            for backward in range(1 + self.bidirectional):
                start = tuple(part[len(finals)].to(product) for part in state)
                weights = tuple(self.all_weights[len(finals)])
                source = reverse(outputs, order) if backward else outputs
                output, final = self._run(source, lengths, start, weights)
                finals.append(final)
                if need_outputs or layer < self.num_layers - 1:
                    directions.append(reverse(output, order) if backward else output)
            if directions:
                outputs = torch.cat(directions, dim=2) if self.bidirectional else directions[0]
        return outputs, finals

    def _run(
        self, inputs: Tensor, lengths: Tensor, state: State, weights: State
    ) -> tuple[Tensor, State]:
        """One direction of one layer, on a CPU or where cuDNN has no such layer.

        inputs [time, batch, features] and state, parts of [batch, hidden], have the type of matrix
        products. Returns outputs [time, batch, hidden], zero beyond each length, and the final
        state, shaped as state.
        """
        h, c = (*state, None)[:2]
        keep = torch.is_grad_enabled()
        outputs, h, c = Recurrence.apply(self.cell, inputs, lengths, h, c, *weights, keep)
        return outputs, (h,) if c is None else (h, c)

    def _packs(self, inputs: Tensor) -> bool:
        """Whether packed sequences are the fast way."""
        return inputs.device.type != "cpu" and self.in_cudnn

    def _run_packed(
        self, inputs: Tensor, lengths: Tensor, initial_state: Any
    ) -> tuple[PackedSequence, Any]:
        """Elsewhere than on a CPU, where packed sequences are fast."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return super().forward(packed, initial_state)

    def _product_type(self, device: str) -> torch.dtype:
        dtype: torch.dtype = self.all_weights[0][0].dtype
        if is_autocast_enabled(device) and dtype != torch.float64:
            return autocast_dtype(device)
        return dtype

    def _check(self, inputs: Tensor, lengths: Tensor, initial_state: Any) -> tuple[Tensor, State]:
        """Lengths as int64 on the CPU, and the initial state in parts."""
        check_inputs(self, inputs, lengths)
        state = initial_state_parts(self, inputs, initial_state, self.state_parts)
        return lengths.to("cpu", torch.int64), state


class RNN(_VariableLength, nn.RNN):  # type: ignore[misc]  # takes lengths, not packing
    """Elman's network (Elman 1990) with tanh, as torch.nn.RNN."""

    cell = RNN_CELL


class LSTM(_VariableLength, nn.LSTM):  # type: ignore[misc]  # takes lengths, not packing
    """Long short-term memory with forget gates (Gers et al. 2000), as torch.nn.LSTM."""

    cell = LSTM_CELL
    state_parts = 2


class GRU(_VariableLength, nn.GRU):  # type: ignore[misc]  # takes lengths, not packing
    """Gated recurrent unit (Cho et al. 2014) in two forms, with the weights of torch.nn.GRU.

    reset="after" is torch.nn.GRU: the reset gate scales the state's product, and z is the share of
    the old state. reset="before" are the equations of Chung et al. (2014): the reset gate scales
    the state before the product, and z is the share of the new candidate. src.models.cells.gru
    compares them.
    """

    cell = GRU_CELL

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        reset: Literal["before", "after"] = "after",
    ) -> None:
        """Take `reset` beside what every layer takes.

        Raises:
            ValueError: `reset` is neither.
        """
        super().__init__(input_size, hidden_size, num_layers, bidirectional, dropout)
        if reset not in ("before", "after"):
            raise ValueError(f"reset must be before or after, got {reset}")
        self.reset = reset
        self.in_cudnn = reset == "after"

    def _run(
        self, inputs: Tensor, lengths: Tensor, state: State, weights: State
    ) -> tuple[Tensor, State]:
        if self.reset == "after":
            return super()._run(inputs, lengths, state, weights)
        if inputs.device.type != "cpu":
            return _by_steps(inputs, lengths, state, weights)
        keep = torch.is_grad_enabled()
        outputs, last = GRUBeforeFunction.apply(inputs, lengths, *state, *weights, keep)
        return outputs, (last,)

    def extra_repr(self) -> str:
        """Say which form this is."""
        return f"{super().extra_repr()}, reset={self.reset}"


def _by_steps(
    inputs: Tensor, lengths: Tensor, state: State, weights: State
) -> tuple[Tensor, State]:
    """The GRU with the reset gate before the product, elsewhere than on a CPU."""
    (h,) = state
    outputs = []
    for time, x in enumerate(inputs):
        real = (time < lengths)[:, None]  # [batch, 1]
        above = gru_step(x, h, weights, "before").h
        h = torch.where(real, above, h)
        outputs.append(torch.where(real, above, 0))
    return torch.stack(outputs), (h,)
