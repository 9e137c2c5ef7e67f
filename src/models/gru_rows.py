"""What both forms of the GRU share: how a block's rows lie, and tanh by way of the sigmoid."""

import torch
from torch import Tensor


def gru_rows(block: Tensor, like: Tensor) -> list[tuple[Tensor, ...]]:
    """For each step of a block [steps, batch, parts], its row, each part of it, and r and z as one.

    A part is as wide as `like`, [batch, hidden]; the last three are r, z, n. Where the block has
    another type than `like`, one row of that type serves all steps.
    """
    hidden, (steps, batch, width) = like.shape[1], block.shape
    if block.dtype != like.dtype:
        block = like.new_empty(1, batch, width)
    parts = (block, *block.split(hidden, dim=2), block[:, :, -3 * hidden : -hidden])
    return list(zip(*parts, strict=True)) * (steps // len(block))


def double_n(rows: Tensor) -> Tensor:
    """Rows r z n with n doubled: its sum then comes doubled, as the sigmoid form of tanh wants."""
    r_z, n = rows.tensor_split([len(rows) // 3 * 2])
    return torch.cat([r_z, 2 * n])
