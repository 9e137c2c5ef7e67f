"""torch's AdamW, Adam and SGD with lazy updates of embeddings, by LazyRows."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from rnn_lab.models.embedding import Embedding, row_gradient
from rnn_lab.models.lazy_rows import LazyAdam, LazyMomentum, LazyRows

PENDING = "pending"  # in a saved state: the rows of LazyRows with their pending updates


class _LazyOptimizer(torch.optim.Optimizer):
    """Mixed into one of torch's optimizers: updates the weights of some embeddings lazily.

    The state of such a weight has the names and shapes that torch's optimizer gives it, and is up
    to date in `state_dict`: a lazy training can resume from a dense one's checkpoint and vice
    versa.
    """

    _embeddings: tuple[Embedding, ...] = ()

    def follow(self, embedding: Embedding) -> None:
        """Update the weight of `embedding`, one of the parameters, lazily from now on.

        Raises:
            ValueError: weight decay is part of the gradient, so that every row has one.
        """
        self._embeddings += (embedding,)
        embedding.lazy_rows = self._start(embedding.weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step. Gradients of followed embeddings may be sparse, dense or None."""
        if not self._embeddings:
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        weights = [embedding.weight for embedding in self._embeddings]
        gradients = [weight.grad for weight in weights]
        for embedding in self._embeddings:
            self._step_rows(embedding)
            embedding.weight.grad = None  # torch's own step skips it
        super().step()
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return torch's state with every row up to date, and under PENDING the rows as they are.

        It changes nothing, so that results do not depend on when checkpoints are written.
        """
        found = super().state_dict()
        for number, updates in self._pending():
            _, *moments = updates.flushed_copy()
            state = dict(found["state"][number])
            state |= dict(zip(updates.moment_names, moments, strict=True))
            found["state"][number] = state | {PENDING: updates.pending()}
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a state, saved lazily or dense; from a lazy one with the same bits."""
        states = {number: dict(state) for number, state in state_dict["state"].items()}
        pending = {number: state.pop(PENDING, None) for number, state in states.items()}
        for embedding in self._embeddings:
            embedding.flush()
        super().load_state_dict(state_dict | {"state": states})
        for embedding in self._embeddings:
            updates = self._start(embedding.weight)
            if (rows := pending.get(self._number(embedding.weight))) is not None:
                updates.restore(rows)
            embedding.lazy_rows = updates

    def _pending(self) -> Iterator[tuple[int, LazyRows]]:
        """Yield the number, in a state_dict, of each weight with pending updates."""
        for embedding in self._embeddings:
            updates = embedding.lazy_rows
            if updates is not None and updates.has_pending:
                yield self._number(embedding.weight), updates

    def _number(self, weight: Tensor) -> int:
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        return next(i for i, parameter in enumerate(parameters) if parameter is weight)

    def _step_rows(self, embedding: Embedding) -> None:
        weight, updates = embedding.weight, embedding.lazy_rows
        if weight.grad is None or updates is None:
            return
        sparse = row_gradient(weight)
        rows, gradient = sparse or (torch.arange(len(weight)), weight.grad)
        group = self._group(weight)
        updates.step(rows, gradient, group["lr"], group["weight_decay"])

    def _group(self, weight: Tensor) -> dict[str, Any]:
        return next(g for g in self.param_groups if any(p is weight for p in g["params"]))

    def _start(self, weight: Tensor) -> LazyRows:
        raise NotImplementedError

    def _zeros(self, weight: Tensor, *names: str) -> dict[str, Tensor]:
        """Return the state of `weight`, with zeros for those of `names` that are missing."""
        state = self.state[weight]
        for name in names:
            if state.get(name) is None:
                state[name] = torch.zeros_like(weight, requires_grad=False)
        return state


class _LazyAdamOptimizer(_LazyOptimizer):
    def _start(self, weight: Tensor) -> LazyAdam:
        group = self._group(weight)
        state = self._zeros(weight, "exp_avg", "exp_avg_sq")
        state.setdefault("step", torch.zeros(()))
        return LazyAdam(weight, state, betas=group["betas"], eps=group["eps"], fused=group["fused"])


class AdamW(_LazyAdamOptimizer, torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""


class Adam(_LazyAdamOptimizer, torch.optim.Adam):
    """Adam (Kingma and Ba 2015)."""

    def _start(self, weight: Tensor) -> LazyAdam:
        _refuse_decay(self._group(weight))
        return super()._start(weight)


class SGD(_LazyOptimizer, torch.optim.SGD):
    """Stochastic gradient descent with momentum."""

    def _start(self, weight: Tensor) -> LazyMomentum:
        group = self._group(weight)
        _refuse_decay(group)
        state = self._zeros(weight, "momentum_buffer")
        return LazyMomentum(weight, state, momentum=group["momentum"])


def follow_embeddings(optimizer: _LazyOptimizer, model: nn.Module, *, lazy: bool) -> None:
    """Let `optimizer` update the embeddings of `model` lazily or not, whatever a former one did."""
    for module in model.modules():
        if isinstance(module, Embedding):
            module.flush()
            module.lazy_rows = None
            if lazy:
                optimizer.follow(module)


def _refuse_decay(group: dict[str, Any]) -> None:
    if group["weight_decay"] != 0:
        raise ValueError("weight_decay is part of the gradient here: no row can be updated lazily")
