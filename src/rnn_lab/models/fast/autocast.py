"""Autocast with torch 2.4's names, also in torch 2.3 (requirements-torchtext.txt has that one)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

Pass = Callable[..., Any]

_TORCH_2_3 = not hasattr(torch.amp, "custom_fwd")


def _unchanged(function: Pass) -> Pass:
    # The passes here set the type of everything they compute: autocast has nothing to change.
    return function


# Mark the two passes of an autograd function: backward runs under the autocast of forward.
custom_fwd: Callable[[Pass], Pass] = _unchanged
custom_bwd: Callable[[Pass], Pass] = _unchanged
if not _TORCH_2_3:
    custom_fwd = partial(torch.amp.custom_fwd, device_type="cpu")
    custom_bwd = partial(torch.amp.custom_bwd, device_type="cpu")


def autocast_dtype(device: str) -> torch.dtype | None:
    """Return autocast's type of matrix products on "cpu", "cuda" and so on; None if it is off."""
    if not _TORCH_2_3:
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if device == "cpu":
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    enabled: Callable[[], bool] = torch.is_autocast_enabled  # of a GPU
    return torch.get_autocast_gpu_dtype() if enabled() else None
