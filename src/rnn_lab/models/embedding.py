"""An embedding whose gradient can have the rows of the batch's words only."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rnn_lab.models.fast.autocast import autocast_dtype, custom_bwd, custom_fwd
from rnn_lab.models.lazy_rows import LazyRows

INITIAL_STD = 0.1  # of a row, before training
_COMPILED = (torch.float32, torch.float64)  # weights that compiled code reads


class Embedding(nn.Embedding):
    """torch.nn.Embedding whose row 0 is padding: zero, and without a gradient.

    If an optimizer has set `lazy_rows`, the gradient of `weight` is sparse, and rows are brought up
    to date when they are looked up or saved. To read `weight` during training, call `flush` first.

    In training on a CPU, under autocast to bfloat16, so are the vectors: recurrent layers read
    that.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx=0)
        self.lazy_rows: LazyRows | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors [..., embedding_dim] of tokens, int64 or int32 [...]."""
        is_compiled = tokens.device.type == "cpu" and self.weight.dtype in _COMPILED
        if not self.training or not is_compiled:
            self.flush()
            return super().forward(tokens)
        rows, places = unique_tokens(tokens, self.num_embeddings)
        table = self.weight if self.lazy_rows is None else self.lazy_rows.read(rows)
        found: Tensor = _LookUp.apply(self.weight, table, rows, places)
        return found.view(*tokens.shape, self.embedding_dim)

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
    """Look up `places` [m] of distinct `rows` [n] of weight, of which the first is padding.

    The table is `weight`, or holds the rows [n, features]. The gradient of weight is then sparse:
    one row for each of `rows`.
    """

    @staticmethod
    @custom_fwd
    def forward(ctx: Any, weight: Tensor, table: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(rows, places)
        ctx.is_sparse, ctx.shape, ctx.dtype = table is not weight, weight.shape, weight.dtype
        is_rounded = autocast_dtype("cpu") == torch.bfloat16
        dtype = torch.bfloat16 if is_rounded else weight.dtype
        found = torch.empty(len(places), weight.shape[1], dtype=dtype)
        of_table = places if ctx.is_sparse else rows[places]
        kernels = _kernels()
        kernels.run(kernels.look_up, len(places), of_table, table, found)
        return found

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        rows, places = ctx.saved_tensors
        summed = torch.empty(len(rows), gradient.shape[1], dtype=ctx.dtype)
        starts, order = places.new_zeros(len(rows) + 1), torch.empty_like(places)
        kernels = _kernels()
        kernels.sort_places(*map(kernels.as_array, (places, starts, order)))
        kernels.run(kernels.add_up, len(places), starts, order, gradient.contiguous(), summed)
        summed[0] = 0
        if ctx.is_sparse:
            found = torch.sparse_coo_tensor(
                rows[None], summed, ctx.shape, is_coalesced=True, check_invariants=False
            )
        else:
            found = summed.new_zeros(ctx.shape).index_copy_(0, rows, summed)
        return found, None, None, None


def scale_vectors(vectors: Tensor) -> Tensor:
    """Return vectors [n, features] with the standard deviation of rows that start randomly.

    word2vec's are some five times as large: gates would begin saturated, and words without a
    vector would hardly be heard beside the others.
    """
    std = vectors.std() if vectors.numel() > 1 else vectors.new_zeros(())
    return vectors * (INITIAL_STD / std) if std > 0 else vectors


def unique_tokens(tokens: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Return the distinct tokens and 0, ascending [n], and flat the place of each of `tokens`.

    Raises:
        IndexError: a token is not from 0 to vocab_size - 1.
    """
    places = tokens.flatten().to(torch.int64, copy=True)
    place_of, rows = places.new_zeros(vocab_size), places.new_empty(vocab_size)
    kernels = _kernels()
    count = kernels.find_places(*map(kernels.as_array, (places, place_of, rows)))
    if count == 0:
        raise IndexError(
            f"tokens must be from 0 to {vocab_size - 1}, got {tokens.min()} to {tokens.max()}"
        )
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
