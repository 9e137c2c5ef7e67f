"""Describe the machine, and measure how fast it multiplies matrices."""

import contextlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.clock import seconds_per_pass
from rnn_lab.process import flush_denormals, tune_malloc
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.hardware import choose_precision, cpu_info

_ROWS = 2048  # of square matrices: large enough for the full rate, a tenth of a second per product


def prepare_process(threads: int) -> None:
    """Apply the process settings of train.py, for ours and for torch's layers alike."""
    tune_malloc()
    flush_denormals()
    torch.set_num_threads(threads)


def has_fast_bf16() -> bool:
    """Return whether precision=auto selects bfloat16 on this machine."""
    return choose_precision(TrainerConfig(precision="auto"), "cpu") == "bf16-mixed"


def product_rate(dtype: torch.dtype, seconds: float) -> float:
    """Return the FLOP/s of a 2048 x 2048 matrix product in `dtype`, measured for `seconds`."""
    left, right = torch.randn(2, _ROWS, _ROWS).to(dtype)
    out = torch.empty_like(left)
    torch.mm(left, right, out=out)
    return 2 * _ROWS**3 / seconds_per_pass(lambda: torch.mm(left, right, out=out), seconds)


def describe_machine(threads: int, others: Mapping[str, str] | None = None) -> str:
    """Return CPU, cores, threads and package versions in one line.

    `others` are the versions of packages in another environment, which replace those of this one.
    """
    found: dict[str, str] = {}
    for name in ("torch", "keras", "tensorflow-cpu", "jax"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    packages = [f"{name} {number}" for name, number in (found | dict(others or {})).items()]
    parts = (
        _cpu(),
        f"{os.cpu_count()} cores",
        f"{threads} threads",
        f"Python {platform.python_version()}",
        *packages,
    )
    return ", ".join(parts)


def _cpu() -> str:
    """Return the CPU's name and its vector and matrix extensions."""
    names = ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]
    known = cpu_info()
    if not known:
        return platform.processor() or platform.machine()
    flags = [name for name in names if name in known.get("flags", "").split()]
    return f"{known.get('model name', platform.machine())} ({', '.join(flags)})"
