"""Lazy updates of an embedding under Adam or SGD: a row is brought up to date when it is read.

A batch holds a small part of the vocabulary. A dense optimizer moves every row at every step, also
without a gradient: its moments decay, and the first one still moves it. A row that is not read can
wait. When it is read, or has a gradient, all missed steps are applied at once: it is then where the
dense optimizer has it. (torch.optim.SparseAdam drops the missed steps, and so trains another
model.)

AdamW (Kingma and Ba 2015, algorithm 1; decay apart from the gradient: Loshchilov and Hutter 2019,
algorithm 2) at step t, with gradient g, learning rate a_t and weight decay d:

    m_t = b1 m_{t-1} + (1 - b1) g_t
    v_t = b2 v_{t-1} + (1 - b2) g_t^2
    w_t = (1 - a_t d) w_{t-1} - a_t m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps)

A row whose last gradient was at step s has by step t become

    m_t = b1^(t-s) m_s                      v_t = b2^(t-s) v_s
    w_t = D w_s - m_s sum_i c_i / (sqrt(v_s) / u_i + eps),    i from s + 1 to t

    D   = prod_i (1 - a_i d)
    c_i = a_i b1^(i-s) / (1 - b1^i) prod_{j>i} (1 - a_j d)
    u_i = sqrt(1 - b2^i) / b2^((i-s)/2)

But for eps the sum would be 1 / sqrt(v_s) times a number that depends on s only. With A = sum c_i
and B = sum c_i u_i, which are the same for all rows that were last updated at step s,

    sum_i c_i / (sqrt(v_s) / u_i + eps)  =  1 / (sqrt(v_s) / B + eps / A)

is exact for eps far below sqrt(v) and far above it. In between the right side is larger, since
u / (sqrt(v) + eps u) is concave in u (Jensen), by no more than the share

    Var(u) / (E(u) (sqrt(min u) + sqrt(E(u)))^2)  ~  (std(u) / E(u))^2 / 4,    weights c_i

of the missed updates. Weights fall with b1^(i-s), so that u hardly changes where they are
large: after 1,000 steps the share is 2e-5, after 100 steps 1e-3, in the first ten 5 %.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

FLUSH_INTERVAL = 1000  # steps between flushes: bounds the table of missed updates


class LazyRows(ABC):
    """Updates single rows of a weight as an optimizer would that updates all rows at every step.

    Between steps, rows of the weight and its moments may have pending updates: `read` returns rows
    with them, `flush` applies all. It can be deep-copied together with the weight.
    """

    lag_columns: ClassVar[tuple[float, ...]]  # of the table, of a row that missed nothing
    moment_names: ClassVar[tuple[str, ...]]  # in a torch optimizer's state

    def __init__(self, weight: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """Take a torch optimizer's state and group of `weight`; missing moments start at zero."""
        for name in self.moment_names:
            if state.get(name) is None:
                state[name] = torch.zeros_like(weight, requires_grad=False)
        self._names = ("weight", *self.moment_names)
        self._values = [weight, *(state[name] for name in self.moment_names)]
        self._steps = 0  # since the last flush
        self._written = torch.zeros(len(weight), dtype=torch.int64)  # of each row
        start = torch.tensor(self.lag_columns, dtype=torch.float64)
        # The missed updates of a row that was last written at step 0, 1, ... and `_steps`.
        self._lags = start.repeat(FLUSH_INTERVAL + 1, 1)  # [FLUSH_INTERVAL + 1, columns]

    @abstractmethod
    def read(self, rows: Tensor) -> Tensor:
        """Return a copy [n, features] of distinct rows, int64 [n], of the weight, up to date."""

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, lr: float, weight_decay: float) -> None:
        """Make the optimizer's step, where distinct `rows` [n] have a gradient [n, features]."""
        self._move(rows, gradient, lr, weight_decay)
        self._steps += 1
        self._written[rows] = self._steps
        self._add_missed_step(self._lags[: self._steps], lr, weight_decay)
        if self._steps == FLUSH_INTERVAL or self._is_exhausted:
            self.flush()

    @torch.no_grad()
    def flush(self) -> None:
        """Apply all pending updates."""
        if self._steps == 0:
            return
        self._update(torch.arange(len(self._written)), self._values)
        self._steps = 0
        self._written.zero_()
        self._lags.copy_(torch.tensor(self.lag_columns, dtype=torch.float64))

    @property
    def _is_exhausted(self) -> bool:
        """Whether the table could not hold one more missed step."""
        return False

    @property
    def has_pending(self) -> bool:
        """Return whether some row may have a pending update."""
        return self._steps > 0

    @torch.no_grad()
    def flushed_copy(self) -> list[Tensor]:
        """Return copies of the weight and of each moment with every row up to date."""
        copies = [value.detach().clone() for value in self._values]
        self._update(torch.arange(len(self._written)), copies)
        return copies

    def pending(self) -> dict[str, Tensor]:
        """Return all that `restore` needs to resume a training with the same bits.

        Rows brought up to date would not do: applied at another time, missed updates are rounded
        otherwise.
        """
        named = zip(self._names, self._values, strict=True)
        rows = {name: value.detach().clone() for name, value in named}
        return rows | {"written": self._written.clone(), "lags": self._lags[: self._steps].clone()}

    @torch.no_grad()
    def restore(self, pending: dict[str, Tensor]) -> None:
        """Return to the state in which `pending` was called."""
        for name, value in zip(self._names, self._values, strict=True):
            value.copy_(pending[name])
        self._written.copy_(pending["written"])
        self._steps = len(pending["lags"])
        self._lags[: self._steps] = pending["lags"]

    @abstractmethod
    def _update(self, rows: Tensor, values: list[Tensor]) -> None:
        """Apply the missed updates of distinct `rows` [n] to `values`, the weight and moments."""

    @abstractmethod
    def _move(self, rows: Tensor, gradient: Tensor, lr: float, weight_decay: float) -> None:
        """Apply the missed updates of `rows`, and make the optimizer's step."""

    @abstractmethod
    def _add_missed_step(self, lags: Tensor, lr: float, weight_decay: float) -> None:
        """Add a step without gradient to `lags` [starts, columns] in place."""


class LazyAdam(LazyRows):
    """AdamW, which is Adam if `weight_decay` is 0; b1 must be below sqrt(b2)."""

    lag_columns = (1.0, 1.0, 0.0, 0.0, 1.0)  # b1^(t-s), b2^(t-s), A, B, D
    moment_names = ("exp_avg", "exp_avg_sq")

    def __init__(self, weight: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        super().__init__(weight, state, group)
        self._count = state.setdefault("step", torch.zeros(()))
        self._betas, self._eps = tuple(group["betas"]), group["eps"]

    @property
    def _is_exhausted(self) -> bool:
        """Whether b2^(t-s), by which B is divided, would underflow; b2 is then below 0.5."""
        smallest = float(self._lags[0, 1]) * self._betas[1]
        return smallest < torch.finfo(self._lags.dtype).tiny

    @torch.no_grad()
    def read(self, rows: Tensor) -> Tensor:
        """Return a copy [n, features] of distinct rows, int64 [n], of the weight, up to date."""
        from rnn_lab.models.fast import kernels

        weight = self._values[0]
        found = weight.new_empty(len(rows), weight.shape[1])
        given = rows, self._written, self._lags, self._eps, *self._values, found
        kernels.run(kernels.read_adam_rows, len(rows), *given)
        return found

    def _update(self, rows: Tensor, values: list[Tensor]) -> None:
        from rnn_lab.models.fast import kernels

        given = rows, self._written, self._lags, self._eps, *values
        kernels.run(kernels.update_adam_rows, len(rows), *given)

    def _move(self, rows: Tensor, gradient: Tensor, lr: float, weight_decay: float) -> None:
        from rnn_lab.models.fast import kernels

        self._count += 1
        given = rows, self._written, self._lags, self._eps, *self._values, gradient.contiguous()
        numbers = lr, 1 - lr * weight_decay, self._betas, self._count.item()
        kernels.run(kernels.step_adam_rows, len(rows), *given, *numbers)

    def _add_missed_step(self, lags: Tensor, lr: float, weight_decay: float) -> None:
        decay1, decay2, a, b, kept = lags.unbind(1)
        (beta1, beta2), count = self._betas, self._count.item()
        decay1 *= beta1
        decay2 *= beta2
        c = decay1 * (lr / (1 - beta1**count))
        for column in (a, b, kept):
            column *= 1 - lr * weight_decay
        a += c
        b += c * ((1 - beta2**count) / decay2).sqrt()


class LazyMomentum(LazyRows):
    """Stochastic gradient descent: p_t = momentum p_{t-1} + g_t, w_t = w_{t-1} - a_t p_t.

    The missed updates of a row are exactly p_s sum_i a_i momentum^(i-s).
    """

    lag_columns = (1.0, 0.0)  # momentum^(t-s), the sum
    moment_names = ("momentum_buffer",)

    def __init__(self, weight: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        super().__init__(weight, state, group)
        self._momentum = group["momentum"]

    @torch.no_grad()
    def read(self, rows: Tensor) -> Tensor:
        """Return a copy [n, features] of distinct rows, int64 [n], of the weight, up to date."""
        weight, buffer = (value[rows] for value in self._values)
        return weight.addcmul_(buffer, self._missed(rows)[:, 1:], value=-1)

    def _update(self, rows: Tensor, values: list[Tensor]) -> None:
        weight, buffer = values
        before, missed = buffer[rows], self._missed(rows)
        weight.index_copy_(0, rows, weight[rows].addcmul_(before, missed[:, 1:], value=-1))
        buffer.index_copy_(0, rows, before.mul_(missed[:, :1]))

    def _move(self, rows: Tensor, gradient: Tensor, lr: float, weight_decay: float) -> None:
        self._update(rows, self._values)
        weight, buffer = self._values
        moved = buffer[rows].mul_(self._momentum).add_(gradient)
        buffer.index_copy_(0, rows, moved)
        weight.index_add_(0, rows, moved, alpha=-lr)

    def _missed(self, rows: Tensor) -> Tensor:
        """Return the table's lines [n, columns] of `rows` [n]."""
        return self._lags[self._written[rows]].to(self._values[0].dtype)

    def _add_missed_step(self, lags: Tensor, lr: float, weight_decay: float) -> None:
        decay, moved = lags.unbind(1)
        decay *= self._momentum
        moved += lr * decay
