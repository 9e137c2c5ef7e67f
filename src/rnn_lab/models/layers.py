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

from rnn_lab.models.dropout import dropout
from rnn_lab.models.fast.autocast import autocast_dtype, is_autocast_enabled
from rnn_lab.models.fast.torch_layers import torch_lstm, torch_rnn
from rnn_lab.models.gru_reset_before_steps import gru_before_by_steps
from rnn_lab.models.layer_arguments import State, check_inputs, initial_state_parts
from rnn_lab.models.padding import zero_padding
from rnn_lab.models.reverse import reversal_index, reverse

# Elements of the gates of a block of time steps: 8 MiB in float32. A whole review's fit no cache,
# and being of another size at every step, leave memory behind that later steps cannot use.
_LSTM_BLOCK = 2**21


class _VariableLength(nn.RNNBase):
    """What the three layers share."""

    state_parts = 1
    has_cudnn = True  # and so fast over packed sequences
    # False: steps that are not compiled, slower and as right. For a process that reads a single
    # sequence: to load the compiled ones and their compiler takes a second. An LSTM has none.
    compiled = True

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
            need_final_state: False returns None for it, which spares the LSTM some work.

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
        outputs, finals = self._run_layers(inputs, lengths, state, need_cell=need_final_state)
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
        _, finals = self._run_layers(inputs, lengths, state, need_outputs=False, need_cell=False)
        return torch.cat([final[0] for final in finals[-directions:]], dim=1)

    def _run_layers(
        self,
        inputs: Tensor,
        lengths: Tensor,
        state: State,
        *,
        need_outputs: bool = True,
        need_cell: bool = True,
    ) -> tuple[Tensor, list[State]]:
        """All layers and directions, on a CPU or where cuDNN has no such layer.

        Returns outputs [time, batch, directions * hidden_size], and for each layer and direction
        its final state, parts of [batch, hidden_size].
        """
        lengths = lengths.to(inputs.device)
        product = self._product_type(inputs.device.type)
        order = reversal_index(lengths, inputs.shape[1]) if self.bidirectional else lengths
        outputs = inputs.transpose(0, 1).to(product)  # [time, batch, input_size]
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                outputs = dropout(outputs, self.dropout, self.training)
            read = need_outputs and layer == self.num_layers - 1  # by someone who sees the padding
            directions = []
            for backward in range(1 + self.bidirectional):
                start = tuple(part[len(finals)].to(product) for part in state)
                weights = tuple(self.all_weights[len(finals)])
                source = reverse(outputs, order) if backward else outputs
                output, final = self._run(source, lengths, start, weights, read, need_cell)
                finals.append(final)
                if read or layer < self.num_layers - 1:
                    directions.append(reverse(output, order) if backward else output)
            if directions:
                outputs = torch.cat(directions, dim=2) if self.bidirectional else directions[0]
        return outputs, finals

    def _run(
        self,
        inputs: Tensor,
        lengths: Tensor,
        state: State,
        weights: State,
        zeroed: bool,
        need_cell: bool,
    ) -> tuple[Tensor, State]:
        """One direction of one layer, on a CPU or where cuDNN has no such layer.

        inputs [time, batch, features] and state, parts of [batch, hidden], have the type of matrix
        products. Returns outputs [time, batch, hidden], which with `zeroed` are zero beyond each
        length, and the final state, shaped as state; without `need_cell` its hidden part alone.
        """
        if not self.compiled:
            parameters = [weight.to(inputs.dtype) for weight in weights]
            h = state[0][None]
            outputs = torch_rnn(self.mode, inputs, h, parameters, train=self.training)
            last = outputs[lengths - 1, torch.arange(len(lengths))]
            return zero_padding(outputs, lengths), (last,)
        from rnn_lab.models.fast.fused_rnn import CELLS, FusedRNN

        keep, cell = torch.is_grad_enabled(), CELLS[self.mode]
        outputs, last = FusedRNN.apply(cell, inputs, lengths, *state, *weights, keep)
        return outputs, (last,)

    def _packs(self, inputs: Tensor) -> bool:
        """Whether packed sequences are the fast way."""
        return inputs.device.type != "cpu" and self.has_cudnn

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


class GRU(_VariableLength, nn.GRU):  # type: ignore[misc]  # takes lengths, not packing
    """Gated recurrent unit (Cho et al. 2014) in two forms, with the weights of torch.nn.GRU.

    reset="after" is torch.nn.GRU: the reset gate scales the state's product, and z is the share of
    the old state. reset="before" are the equations of Chung et al. (2014): the reset gate scales
    the state before the product, and z is the share of the new candidate. rnn_lab.models.cells.gru
    compares them.
    """

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
        self.has_cudnn = reset == "after"

    def _run(
        self,
        inputs: Tensor,
        lengths: Tensor,
        state: State,
        weights: State,
        zeroed: bool,
        need_cell: bool,
    ) -> tuple[Tensor, State]:
        if self.reset == "after":
            return super()._run(inputs, lengths, state, weights, zeroed, need_cell)
        if inputs.device.type != "cpu" or not self.compiled:
            return gru_before_by_steps(inputs, lengths, state, weights)
        from rnn_lab.models.fast.fused_gru_reset_before import FusedGRUResetBefore

        keep = torch.is_grad_enabled()
        outputs, last = FusedGRUResetBefore.apply(inputs, lengths, *state, *weights, keep)
        return outputs, (last,)

    def extra_repr(self) -> str:
        """Say which form this is."""
        return f"{super().extra_repr()}, reset={self.reset}"


class LSTM(_VariableLength, nn.LSTM):  # type: ignore[misc]  # takes lengths, not packing
    """Long short-term memory with forget gates (Gers et al. 2000), as torch.nn.LSTM.

    On a CPU torch gives an unpacked LSTM in float32 or bfloat16 to oneDNN, which is near the speed
    of its matrix products. It returns the cell state after the last padded step only. So that this
    is the one of the last real step, padding is told to keep it: one more input, 1 on padding and
    0 elsewhere, whose weights open the forget gate and close the input gate.
    """

    state_parts = 2

    def _run(
        self,
        inputs: Tensor,
        lengths: Tensor,
        state: State,
        weights: State,
        zeroed: bool,
        need_cell: bool,
    ) -> tuple[Tensor, State]:
        h, c = state
        weight_ih, *others = (weight.to(inputs.dtype) for weight in weights)
        time, batch, _ = inputs.shape
        if need_cell:
            padding = (torch.arange(time)[:, None] >= lengths)[:, :, None]  # [time, batch, 1]
            saturated = torch.finfo(weight_ih.dtype).max / 4  # sigmoid: exactly 0 or 1
            keep = weight_ih.new_zeros(4, self.hidden_size)  # input, forget, cell, output
            keep[0], keep[1] = -saturated, saturated
            weight_ih = torch.cat([weight_ih, keep.view(-1, 1)], dim=1)
            inputs = torch.cat([inputs, padding.to(inputs.dtype)], dim=2)
        blocks = []
        h, c = h[None], c[None]
        for block in inputs.split(max(1, _LSTM_BLOCK // (batch * 4 * self.hidden_size))):
            output, h, c = torch_lstm(block, (h, c), [weight_ih, *others], train=self.training)
            blocks.append(output)
        outputs = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
        last = outputs[lengths - 1, torch.arange(batch)]
        if zeroed:
            outputs = zero_padding(outputs, lengths)
        return outputs, (last, c[0]) if need_cell else (last,)
