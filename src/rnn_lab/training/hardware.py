"""What this machine can train on, and the fastest precision it trains in."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from rnn_lab.errors import ConfigError
from rnn_lab.training.config import TrainerConfig

Accelerator = Literal["cpu", "gpu", "mps"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def available_devices() -> dict[Accelerator, int]:
    """Number of devices of each kind that are really here."""
    devices: dict[Accelerator, int] = {"cpu": os.cpu_count() or 1}
    if torch.cuda.is_available():
        devices["gpu"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        devices["mps"] = 1
    return devices


def choose_accelerator(config: TrainerConfig) -> Accelerator:
    """Return the accelerator asked for, or for `auto` the fastest there is.

    Raises:
        ConfigError: this machine has no such accelerator.
    """
    available = available_devices()
    if config.accelerator == "auto":
        return "gpu" if "gpu" in available else "mps" if "mps" in available else "cpu"
    if config.accelerator not in available:
        raise ConfigError(
            f"trainer.accelerator={config.accelerator}: this machine has none. "
            f"Choose from: auto, {', '.join(available)}"
        )
    return config.accelerator


def choose_devices(config: TrainerConfig, accelerator: Accelerator) -> int:
    """Return the number of processes to train in, one a device.

    Raises:
        ConfigError: there are fewer devices, or several without data parallel training.
    """
    count = available_devices()[accelerator]
    things = {"cpu": "processor cores", "gpu": "GPUs", "mps": "Apple chips"}[accelerator]
    if config.devices == "auto":
        return 1 if accelerator == "cpu" or config.strategy == "auto" else count
    if config.devices > count:
        raise ConfigError(
            f"trainer.devices={config.devices}: this machine has {count} {things}. "
            f"Choose from: auto, 1 to {count}"
        )
    if config.devices > 1 and config.strategy != "ddp":
        raise ConfigError(f"trainer.devices={config.devices}: more than one needs trainer=ddp")
    return config.devices


def choose_precision(config: TrainerConfig, accelerator: Accelerator) -> Precision:
    """Return Lightning's name of the precision; `auto` is bfloat16 where the hardware is fast."""
    if config.precision != "auto":
        return config.precision
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(False) else "32-true"
    if accelerator == "cpu":
        if not hasattr(torch.cpu, "get_capabilities"):  # torch 2.3, beside torchtext
            return "32-true"
        return "bf16-mixed" if is_fast_at_bf16(torch.cpu.get_capabilities()) else "32-true"
    return "32-true"


def is_fast_at_bf16(processor: Mapping[str, Any]) -> bool:
    """Whether `processor`, torch's description of one, gains from bfloat16 products.

    With AMX it does. Of those with AVX512-BF16 alone AMD's do; Intel's have half as many units for
    it as for float32, and measure slower.
    """
    if processor.get("amx_tile"):
        return True
    return bool(processor.get("avx512_bf16")) and "Intel" not in processor["cpu_name"]


def describe_machine(accelerator: Accelerator) -> dict[str, str | None]:
    """Name what a run's figures were computed on: others may round otherwise."""
    gpu = torch.cuda.get_device_name() if accelerator == "gpu" else None
    return {
        "cpu": cpu_info().get("model name") or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
    }


def cpu_info() -> dict[str, str]:
    """Return what Linux says of a core of the processor; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in fields.items()}
