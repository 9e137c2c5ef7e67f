"""An embedding whose gradient can have the rows of the batch's words only."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rnn_lab.models.fast.autocast import custom_bwd, custom_fwd
from rnn_lab.models.lazy_rows import LazyRows

INITIAL_STD = 0.1  # of a row, before training


class Embedding(nn.Embedding):
    """torch.nn.Embedding whose row 0 is padding: zero, and without a gradient.

    If an optimizer has set `lazy_rows`, the gradient of `weight` is sparse, and rows are brought up
    to date when they are looked up or saved. To read `weight` during training, call `flush` first.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx=0)
        self.lazy_rows: LazyRows | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors [..., embedding_dim] of tokens int64 [...]."""
        if self.lazy_rows is None or not self.training:
            self.flush()
            return super().forward(tokens)
        rows, places = unique_tokens(tokens, self.num_embeddings)
        found: Tensor = _LookUp.apply(self.weight, self.lazy_rows.read(rows), rows, places)
        return found.unflatten(0, tokens.shape)

    @torch.no_grad()
    def start_randomly(self) -> None:
        """Draw all rows but that of padding from a normal distribution."""
        # torch draws with a standard deviation of 1, ten times the weights that read the rows:
        # gates saturate, and rare words keep their random vectors.
        self.weight.normal_(0, INITIAL_STD)
        self.weight[0] = 0

    def flush(self) -> None:
        """Bring every row of `weight` up to date."""
        if self.lazy_rows is not None:
            self.lazy_rows.flush()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.lazy_rows is not None and self.lazy_rows.has_pending:
            destination[f"{prefix}weight"] = self.lazy_rows.flushed_copy()[0]

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.flush()  # no pending update of the old weights may move the new ones
        super()._load_from_state_dict(*args, **options)


class _LookUp(torch.autograd.Function):
    """Look up `places` [m] in `table` [n, features], which holds `rows` [n] of weight.

    The first row is padding. The gradient of weight is sparse: one row for each of `rows`.
    """

    @staticmethod
    @custom_fwd
    def forward(ctx: Any, weight: Tensor, table: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(rows, places)
        ctx.shape = weight.shape
        found = table.new_empty(len(places), table.shape[1])
        kernels = _kernels()
        kernels.run(kernels.look_up, len(places), places, table, found)
        return found

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        rows, places = ctx.saved_tensors
        summed = gradient.new_zeros(len(rows), gradient.shape[1])
        kernels = _kernels()
        # By columns: every sum has one thread, and its order.
        kernels.run(kernels.add_up, gradient.shape[1], places, gradient.contiguous(), summed)
        summed[0] = 0
        sparse = torch.sparse_coo_tensor(
            rows[None], summed, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return sparse, None, None, None


def scale_vectors(vectors: Tensor) -> Tensor:
    """Return vectors [n, features] with the standard deviation of rows that start randomly.

    word2vec's are some five times as large: gates would begin saturated, and words without a
    vector would hardly be heard beside the others.
    """
    std = vectors.std() if vectors.numel() > 1 else vectors.new_zeros(())
    return vectors * (INITIAL_STD / std) if std > 0 else vectors


def unique_tokens(tokens: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Return the distinct tokens and 0, ascending [n], and flat the place of each of `tokens`."""
    places = tokens.flatten().clone()
    place_of, rows = tokens.new_zeros(vocab_size), tokens.new_empty(vocab_size)
    kernels = _kernels()
    count = kernels.find_places(*map(kernels.as_array, (places, place_of, rows)))
    return rows[:count], places


def _kernels() -> Any:
    """Import the compiled code, which takes a second, when a training begins."""
    from rnn_lab.models.fast import kernels

    return kernels


def row_gradient(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return distinct rows [n] and their gradients [n, features]; None if `weight.grad` is dense.

    The gradients are `weight.grad`'s own: changed in place, they change it.
    """
    grad = weight.grad
    if grad is None or not grad.is_sparse:
        return None
    rows = grad._indices()[0]
    # The gradient of a single batch has distinct rows, but autograd loses the mark that says so.
    if not grad.is_coalesced() and not bool((rows[1:] > rows[:-1]).all()):
        weight.grad = grad = grad.coalesce()
    return grad._indices()[0], grad._values()


def clip_params(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return parameters that torch.nn.utils can clip: for each sparse gradient its rows."""
    found = []
    for parameter in parameters:
        if (sparse := row_gradient(parameter)) is not None:
            parameter = torch.empty_like(sparse[1]).requires_grad_()
            parameter.grad = sparse[1]
        found.append(parameter)
    return found
