"""One step of each recurrent cell, written to be read beside its equations.

A step is a pure function of tensors, differentiated by plain autograd. It names every intermediate
value. `reference.py` runs it over sequences. The fast paths of `fast` compute the same, and the
tests hold them to it.

Weights belong to one direction of one layer. Those of RNN, LSTM and GRU are torch's:

    weight_ih [gates * hidden, input]     the W of all gates, one on top of the other
    weight_hh [gates * hidden, hidden]    the U of all gates
    bias_ih, bias_hh [gates * hidden]     the b and the c of all gates

Papers and tutorials often join state and input, with one matrix W' = [U, W] and one bias b' = b + c
per gate. That is the same: W' [h, x] + b' = W x + b + U h + c. A batch holds one sequence per row,
so that W x is `x @ W.T` here.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor, nn

from rnn_lab.errors import ConfigError
from rnn_lab.models.config import CELL_CONFIGS, GRUConfig, LSTMConfig, ModelConfig
from rnn_lab.models.registry import CELLS
from rnn_lab.registry import REGISTERED_OPTIONS

State = tuple[Tensor, ...]
Weights = Mapping[str, Tensor]


ValueKind = Literal["gate", "candidate", "state"]
VALUE_KINDS: tuple[str, ...] = get_args(ValueKind)


class Value(NamedTuple):
    """How `explain.py` presents a value of a cell."""

    kind: ValueKind  # a gate is from 0 to 1
    title: str  # "forget gate $f$: how much of its old value a cell keeps", the symbol in TeX
    ends: tuple[str, str] = ("closed", "open")  # what a gate does at 0 and at 1


class Cell(ABC):
    """A recurrent cell: the shapes of its weights, how they start, and one step.

    Options of a cell are arguments of its constructor and fields of its config class.
    """

    name: ClassVar[str] = "cell"  # set by register_cell
    gates: ClassVar[int]  # weight_ih, weight_hh and biases have gates * hidden rows
    states: ClassVar[tuple[str, ...]] = ("h",)  # values carried to the next step; h is the output
    values: ClassVar[dict[str, Value]]  # every value of a step, in the order of computation

    def weight_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of each weight of one direction of one layer."""
        rows = self.gates * hidden_size
        matrices = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size)}
        return matrices | {"bias_ih": (rows,), "bias_hh": (rows,)}

    def reset_weights(self, weights: Weights, hidden_size: int) -> None:
        """Draw new weights in place, as torch does: uniform between ±1 / sqrt(hidden_size)."""
        bound = hidden_size**-0.5
        for weight in weights.values():
            nn.init.uniform_(weight, -bound, bound)

    @abstractmethod
    def step(self, x: Tensor, state: State, weights: Weights) -> dict[str, Tensor]:
        """Return all `values` [batch, hidden] of one step, by name.

        `x` is the input, [batch, input]. `state` are the values of the step before that `states`
        names, each [batch, hidden]. `weights` have the names of `weight_shapes`.
        """


AnyCell = TypeVar("AnyCell", bound=Cell)


def register_cell(
    name: str, config: type[ModelConfig] = ModelConfig
) -> Callable[[type[AnyCell]], type[AnyCell]]:
    """Register a class as the cell `model.name=<name>`, with `config` for the cell's own options.

    Raises:
        ConfigError: another cell has that name, or the class or `config` does not fit.
    """
    CELLS.check_name(name)

    def register(cell: type[AnyCell]) -> type[AnyCell]:
        _check_complete(name, cell, config)
        CELLS.add(name, cell, cell)
        CELL_CONFIGS[name] = config
        REGISTERED_OPTIONS.update(f"model.{option}" for option in config.model_fields)
        cell.name = name
        return cell

    return register


def _check_complete(name: str, cell: type[Cell], config: type[ModelConfig]) -> None:
    """Report the mistakes of a class that would be errors far from their cause later."""
    if not (isinstance(cell, type) and issubclass(cell, Cell)):
        raise ConfigError(f"cell {name}: must be a subclass of rnn_lab.models.Cell")
    if not (isinstance(config, type) and issubclass(config, ModelConfig)):
        raise ConfigError(f"cell {name}: {config!r} is not a subclass of ModelConfig")
    missing = sorted(cell.__abstractmethods__)
    reads_gates = cell.weight_shapes is Cell.weight_shapes
    if reads_gates and not hasattr(cell, "gates"):
        missing.append("gates")
    if missing:
        raise ConfigError(f"cell {name}: {cell.__name__} does not define {', '.join(missing)}")
    if reads_gates and not (isinstance(cell.gates, int) and cell.gates > 0):
        raise ConfigError(f"cell {name}: gates={cell.gates!r} must be a positive integer")
    values = getattr(cell, "values", {})
    if cell.states[:1] != ("h",) or not set(cell.states) <= set(values):
        raise ConfigError(
            f"cell {name}: `states` must begin with h, the output, and `values` must describe "
            "each of them"
        )
    for key, value in values.items():
        if not isinstance(value, Value) or value.kind not in VALUE_KINDS:
            raise ConfigError(
                f"cell {name}: values[{key!r}] is {value!r}, expected Value(kind, title) with the "
                f"kind {', '.join(VALUE_KINDS)}"
            )
    CELLS.check_call(name, cell.step, "self", "x", "state", "weights")
    options = config.model_fields.keys() - ModelConfig.model_fields.keys()
    try:
        inspect.signature(cell).bind(**dict.fromkeys(sorted(options)))
    except TypeError as error:
        raise ConfigError(
            f"cell {name}: the constructor of {cell.__name__} does not fit the options of "
            f"{config.__name__}: {error}"
        ) from None


@register_cell("rnn")
class RNNCell(Cell):
    """The plain recurrent network (Elman 1990), with tanh as torch.nn.RNN; Elman has the sigmoid.

    h_t = tanh(W x_t + b + U h_{t-1} + c)
    """

    gates = 1
    values: ClassVar = {"h": Value("state", "hidden state $h$: all that is remembered")}

    def step(self, x: Tensor, state: State, weights: Weights) -> dict[str, Tensor]:
        """Compute h_t from x_t and h_{t-1}."""
        (h,) = state
        W, U = weights["weight_ih"], weights["weight_hh"]
        b, c = weights["bias_ih"], weights["bias_hh"]

        h = torch.tanh(x @ W.T + b + h @ U.T + c)
        return {"h": h}


@register_cell("lstm", LSTMConfig)
class LSTMCell(Cell):
    r"""Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates.

        f_t = sigmoid(W_f x_t + b_f + U_f h_{t-1} + c_f)         forget gate (Gers et al. 2000)
        i_t = sigmoid(W_i x_t + b_i + U_i h_{t-1} + c_i)         input gate
        C~_t = tanh(W_C x_t + b_C + U_C h_{t-1} + c_C)           candidate
        C_t = f_t * C_{t-1} + i_t * C~_t                         cell state
        o_t = sigmoid(W_o x_t + b_o + U_o h_{t-1} + c_o)         output gate
        h_t = o_t * tanh(C_t)                                    hidden state

    The paper of 1997 has no forget gate: its cell state only ever adds, f_t = 1. Like torch.nn.LSTM
    this has no peepholes (`zoo/peephole_lstm.py`). Rows of the weights: input, forget, candidate,
    output.
    """

    gates = 4
    states = ("h", "C")
    values: ClassVar = {
        "f": Value("gate", "forget gate $f$: how much a cell keeps", ("forgets", "keeps")),
        "i": Value("gate", "input gate $i$: how much of the candidate enters the cell"),
        "C_tilde": Value("candidate", r"candidate $\tilde{C}$: what the word would write"),
        "C": Value("state", r"cell state $C = f \, C_{before} + i \, \tilde{C}$: the memory"),
        "o": Value(
            "gate", "output gate $o$: how much of its cell a unit shows", ("hides", "shows")
        ),
        "h": Value("state", r"hidden state $h = o \, \tanh(C)$: what is shown of the cell"),
    }

    def __init__(self, forget_bias: float | None = None) -> None:
        """Set where the forget gates' biases start; None draws them as all other weights."""
        self.forget_bias = forget_bias

    def reset_weights(self, weights: Weights, hidden_size: int) -> None:
        """Draw new weights, then open the forget gates."""
        super().reset_weights(weights, hidden_size)
        if self.forget_bias is not None:
            with torch.no_grad():  # one of the two biases carries the value
                for name, value in (("bias_ih", self.forget_bias), ("bias_hh", 0.0)):
                    forget = weights[name].view(4, -1)[1]  # input, forget, candidate, output
                    forget.fill_(value)

    def step(self, x: Tensor, state: State, weights: Weights) -> dict[str, Tensor]:
        """Compute h_t and C_t from x_t, h_{t-1} and C_{t-1}."""
        h, C = state
        W_i, W_f, W_C, W_o = weights["weight_ih"].chunk(4)
        U_i, U_f, U_C, U_o = weights["weight_hh"].chunk(4)
        b_i, b_f, b_C, b_o = weights["bias_ih"].chunk(4)
        c_i, c_f, c_C, c_o = weights["bias_hh"].chunk(4)

        f = torch.sigmoid(x @ W_f.T + b_f + h @ U_f.T + c_f)
        i = torch.sigmoid(x @ W_i.T + b_i + h @ U_i.T + c_i)
        C_tilde = torch.tanh(x @ W_C.T + b_C + h @ U_C.T + c_C)
        C = f * C + i * C_tilde
        o = torch.sigmoid(x @ W_o.T + b_o + h @ U_o.T + c_o)
        h = o * torch.tanh(C)
        return {"f": f, "i": i, "C_tilde": C_tilde, "C": C, "o": o, "h": h}


@register_cell("gru", GRUConfig)
class GRUCell(Cell):
    r"""The gated recurrent unit, in its two forms.

        r_t = sigmoid(W_r x_t + b_r + U_r h_{t-1} + c_r)         reset gate
        z_t = sigmoid(W_z x_t + b_z + U_z h_{t-1} + c_z)         update gate
        h~_t = tanh(W_h x_t + b_h + U_h (r_t * h_{t-1}) + c_h)   candidate
        h_t = (1 - z_t) * h_{t-1} + z_t * h~_t                   hidden state

    These are the equations of Chung et al. (2014, section 3.2), with biases, and of most
    tutorials. The sources differ in two things:

                              reset gate                         h_t
        Cho et al. (2014)     before the product: U (r * h)      z * h_{t-1} + (1 - z) * h~
        Chung et al. (2014)   before the product: U (r * h)      (1 - z) * h_{t-1} + z * h~
        torch.nn.GRU, cuDNN   after the product: r * (U h + c)   z * h_{t-1} + (1 - z) * h~

    (Cho et al.: eq. 5 to 8 as published; arXiv 1406.1078v1 had the reset gate after the product.)
    Which of z and 1 - z is called z changes only the sign of its rows of weights, since
    1 - sigmoid(a) = sigmoid(-a). The place of the reset gate changes the network: after the
    product it scales each unit's view of the whole state, before it each unit of the state that
    all units see. Rows of the weights: reset, update, candidate.
    """

    gates = 3
    values: ClassVar = {
        "z": Value("gate", "update gate $z$: how much of a unit is new", ("keeps", "replaces")),
        "r": Value("gate", "reset gate $r$: how much of the old state is seen", ("none", "all")),
        "h_tilde": Value("candidate", r"candidate $\tilde{h}$: what the word would put there"),
        "h": Value("state", r"hidden state $h = (1-z) \, h_{before} + z \, \tilde{h}$: the memory"),
    }

    def __init__(self, reset_after: bool = True) -> None:
        """Choose the form: True is torch.nn.GRU, False are the equations above."""
        self.reset_after = reset_after

    def step(self, x: Tensor, state: State, weights: Weights) -> dict[str, Tensor]:
        """Compute h_t from x_t and h_{t-1}; z is the share of the new candidate in both forms."""
        (h,) = state
        W_r, W_z, W_h = weights["weight_ih"].chunk(3)
        U_r, U_z, U_h = weights["weight_hh"].chunk(3)
        b_r, b_z, b_h = weights["bias_ih"].chunk(3)
        c_r, c_z, c_h = weights["bias_hh"].chunk(3)

        r = torch.sigmoid(x @ W_r.T + b_r + h @ U_r.T + c_r)
        z = torch.sigmoid(x @ W_z.T + b_z + h @ U_z.T + c_z)
        if self.reset_after:
            z = 1 - z  # what torch calls z is the share of the old state
            h_tilde = torch.tanh(x @ W_h.T + b_h + r * (h @ U_h.T + c_h))
        else:
            h_tilde = torch.tanh(x @ W_h.T + b_h + (r * h) @ U_h.T + c_h)
        h = (1 - z) * h + z * h_tilde
        return {"z": z, "r": r, "h_tilde": h_tilde, "h": h}
