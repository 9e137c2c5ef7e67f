"""torch's AdamW, Adam and SGD with lazy updates of embeddings, by LazyRows."""

from collections.abc import Callable
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

    _kind: type[LazyRows]
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
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [embedding.weight.grad for embedding in self._embeddings]
        for embedding in self._embeddings:
            weight, lazy_rows = embedding.weight, embedding.lazy_rows
            if weight.grad is not None and lazy_rows is not None:
                rows, gradient = row_gradient(weight) or (torch.arange(len(weight)), weight.grad)
                group = self._group(weight)
                lazy_rows.step(rows, gradient, group["lr"], group["weight_decay"])
            weight.grad = None  # torch's own step skips it
        self._prepare_step()
        super().step()
        for embedding, grad in zip(self._embeddings, gradients, strict=True):
            embedding.weight.grad = grad
        return loss

    def _prepare_step(self) -> None:
        """Make the state ready for torch's own step."""

    def state_dict(self) -> dict[str, Any]:
        """Return torch's state with every row up to date, and under PENDING the rows as they are.

        It changes nothing, so that results do not depend on when checkpoints are written.
        """
        found = super().state_dict()
        for embedding in self._embeddings:
            rows = embedding.lazy_rows
            if rows is not None and rows.has_pending:
                _, *moments = rows.flushed_copy()
                current = dict(zip(rows.moment_names, moments, strict=True))
                number = self._number(embedding.weight)
                found["state"][number] = (
                    found["state"][number] | current | {PENDING: rows.pending()}
                )
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a state, saved lazily or dense; from a lazy one with the same bits."""
        states = {number: dict(state) for number, state in state_dict["state"].items()}
        pending = {number: state.pop(PENDING, None) for number, state in states.items()}
        for embedding in self._embeddings:
            embedding.flush()
        super().load_state_dict(state_dict | {"state": states})
        for embedding in self._embeddings:
            embedding.lazy_rows = self._start(embedding.weight)
            if (rows := pending.get(self._number(embedding.weight))) is not None:
                embedding.lazy_rows.restore(rows)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has."""
        return super().__getstate__() | {"_embeddings": self._embeddings}

    def _number(self, weight: Tensor) -> int:
        """Return the number of a weight in a state_dict."""
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        return next(i for i, parameter in enumerate(parameters) if parameter is weight)

    def _group(self, weight: Tensor) -> dict[str, Any]:
        return next(g for g in self.param_groups if any(p is weight for p in g["params"]))

    def _start(self, weight: Tensor) -> LazyRows:
        group = self._group(weight)
        if group["weight_decay"] != 0 and not isinstance(self, torch.optim.AdamW):
            raise ValueError(
                "weight_decay is part of the gradient here: no row can be updated lazily"
            )
        return self._kind(weight, self.state[weight], group)


class AdamW(_LazyOptimizer, torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    _kind = LazyAdam


class Adam(_LazyOptimizer, torch.optim.Adam):
    """Adam (Kingma and Ba 2015)."""

    _kind = LazyAdam


class SGD(_LazyOptimizer, torch.optim.SGD):
    """Stochastic gradient descent with momentum."""

    _kind = LazyMomentum

    def _prepare_step(self) -> None:
        """Give weights that begin to learn a momentum that the step turns into their gradient.

        So does torch's step, but its fused one fails where some weights of a group have a momentum
        and others do not.
        """
        for group in self.param_groups:
            for weight in group["params"] if group["momentum"] else ():
                state = self.state[weight]
                if weight.grad is None or state.get("momentum_buffer") is not None:
                    continue
                gradient = -weight.grad if group["maximize"] else weight.grad
                gradient = gradient.add(weight, alpha=group["weight_decay"])
                state["momentum_buffer"] = gradient * (group["dampening"] / group["momentum"])


def follow_embeddings(optimizer: torch.optim.Optimizer, model: nn.Module, *, lazy: bool) -> None:
    """Let `optimizer` update the embeddings of `model` lazily or not, whatever a former one did."""
    for module in model.modules():
        if isinstance(module, Embedding):
            module.flush()
            module.lazy_rows = None
            if lazy:
                assert isinstance(optimizer, _LazyOptimizer)
                optimizer.follow(module)
