"""The machine that the figures hold for, and how fast it multiplies matrices."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.clock import seconds_per_pass
from rnn_lab.hardware import choose_precision, cpu_info
from rnn_lab.training.config import TrainerConfig
from rnn_lab.training.process import flush_denormals, tune_malloc

_ROWS = 2048  # of square matrices: large enough for the full rate, a tenth of a second a product


def prepare_process(threads: int) -> None:
    """Set the process up as train.py does, for ours and for torch's layers alike."""
    tune_malloc()
    flush_denormals()
    torch.set_num_threads(threads)


def has_fast_bf16() -> bool:
    """Whether training here takes bfloat16 by itself."""
    return choose_precision(TrainerConfig(precision="auto"), "cpu") == "bf16-mixed"


def product_rate(dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of a matrix product of 2048 x 2048 matrices of `dtype`, measured for `seconds`."""
    left, right = torch.randn(2, _ROWS, _ROWS).to(dtype)
    out = torch.empty_like(left)
    torch.mm(left, right, out=out)
    return 2 * _ROWS**3 / seconds_per_pass(lambda: torch.mm(left, right, out=out), seconds)


def describe_machine(threads: int) -> str:
    """Name processor, cores, threads and the packages that did the work, in one line."""
    packages = []
    for name in ("torch", "keras", "tensorflow-cpu"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    parts = (
        _processor(),
        f"{os.cpu_count()} cores",
        f"{threads} threads",
        f"Python {platform.python_version()}",
        *packages,
    )
    return ", ".join(parts)


def _processor() -> str:
    """The processor's own name, and how it multiplies small numbers."""
    names = ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]
    known = cpu_info()
    if not known:
        return platform.processor() or platform.machine()
    flags = [name for name in names if name in known.get("flags", "").split()]
    return f"{known.get('model name', platform.machine())} ({', '.join(flags)})"
