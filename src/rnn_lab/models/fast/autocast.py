"""Autocast on a CPU with torch 2.4's function names, also in torch 2.3.

torch 2.3 is used in one environment only, that of requirements-torchtext.txt.
"""

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
custom_fwd: Callable[[Pass], Pass] = (
    _unchanged if _TORCH_2_3 else partial(torch.amp.custom_fwd, device_type="cpu")
)
custom_bwd: Callable[[Pass], Pass] = (
    _unchanged if _TORCH_2_3 else partial(torch.amp.custom_bwd, device_type="cpu")
)


def is_autocast_enabled(device_type: str) -> bool:
    """Return whether autocast is on for "cpu", "cuda" or another device."""
    if _TORCH_2_3:
        return torch.is_autocast_cpu_enabled() if device_type == "cpu" else _cuda_autocast()
    return torch.is_autocast_enabled(device_type)


def autocast_dtype(device_type: str) -> torch.dtype:
    """Return autocast's type of matrix products on "cpu", "cuda" or another device."""
    if _TORCH_2_3:
        cpu = device_type == "cpu"
        return torch.get_autocast_cpu_dtype() if cpu else torch.get_autocast_gpu_dtype()
    return torch.get_autocast_dtype(device_type)


def _cuda_autocast() -> bool:
    without_argument: Callable[[], bool] = torch.is_autocast_enabled
    return without_argument()
