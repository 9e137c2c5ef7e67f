"""From the outputs of every step to one vector a review. Steps past a review's end never count.

Each function takes outputs [batch, time, features] and lengths [batch], 1 <= length <= time, and
gives [batch, features].
"""

from typing import Literal

import torch
from torch import Tensor


def last(outputs: Tensor, lengths: Tensor, bidirectional: bool = False) -> Tensor:
    """The final state of each direction: all that it has read.

    The forward direction ends at the last real step. The backward direction reads from the end to
    the beginning, so its final state stands at step 0; at the last real step it has read one token.
    """
    final = (lengths - 1)[:, None].repeat(1, outputs.size(2))  # [batch, features]
    if bidirectional:
        final[:, outputs.size(2) // 2 :] = 0
    return _at_steps(outputs, final)


def mean(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The mean over real steps. Outputs past each length must be zero, as ours are."""
    return outputs.sum(dim=1) / lengths[:, None].to(outputs.dtype)


def maximum(outputs: Tensor, lengths: Tensor) -> Tensor:
    """The maximum over real steps, feature by feature.

    The zeros past the end would win over features that are negative throughout, and masking them
    would copy the whole block: each review is read up to its own length instead. The gradient goes
    to one step a feature.
    """
    with torch.no_grad():
        argmax = torch.stack(
            [
                review[:length].max(dim=0).indices  # faster on a CPU than argmax
                for review, length in zip(outputs, lengths.tolist(), strict=True)
            ]
        )  # [batch, features]
    return _at_steps(outputs, argmax)


def pool(
    outputs: Tensor,
    lengths: Tensor,
    pooling: Literal["last", "mean", "max"],
    bidirectional: bool = False,
) -> Tensor:
    """One of the above by its name; `bidirectional` says that features are two directions."""
    if pooling == "last":
        return last(outputs, lengths, bidirectional)
    return mean(outputs, lengths) if pooling == "mean" else maximum(outputs, lengths)


def _at_steps(outputs: Tensor, steps: Tensor) -> Tensor:
    """outputs[b, steps[b, f], f]: [batch, features]."""
    return outputs.gather(1, steps.to(outputs.device)[:, None]).squeeze(1)
