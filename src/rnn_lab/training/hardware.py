"""The hardware of this machine: what there is, what a run asks for, and its fastest precision."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from rnn_lab.errors import ConfigError
from rnn_lab.process import is_fast_at_bf16, is_rank_zero
from rnn_lab.training.config import Precision, TrainerConfig

Accelerator = Literal["cpu", "gpu", "mps"]


# Torch's devices by Lightning's names of them, the fastest first.
TORCH_DEVICES: dict[Accelerator, str] = {"gpu": "cuda", "mps": "mps", "cpu": "cpu"}


@dataclass(frozen=True)
class Hardware:
    """What a run computes on; every `auto` of its options is resolved."""

    accelerator: Accelerator
    devices: int  # processes on this machine, one a device
    precision: Precision


def resolve_hardware(options: TrainerConfig) -> Hardware:
    """Return the hardware that the trainer options ask for on this machine.

    Raises:
        ConfigError: this machine has no such accelerator, fewer devices, or not that precision.
    """
    found = choose_accelerator(options)
    return Hardware(found, choose_devices(options, found), choose_precision(options, found))


def available_devices() -> dict[Accelerator, int]:
    """Return the number of devices of each kind on this machine."""
    devices: dict[Accelerator, int] = {"cpu": os.cpu_count() or 1}
    if torch.cuda.is_available():
        devices["gpu"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        devices["mps"] = 1
    return devices


def choose_accelerator(options: TrainerConfig) -> Accelerator:
    """Return the accelerator asked for; for `auto`, the fastest there is.

    Raises:
        ConfigError: this machine has no such accelerator.
    """
    available = available_devices()
    if options.accelerator == "auto":
        return next(kind for kind in TORCH_DEVICES if kind in available)
    if options.accelerator not in available:
        raise ConfigError(
            f"trainer.accelerator={options.accelerator}: this machine has none. "
            f"Choose from: auto, {', '.join(available)}"
        )
    return options.accelerator


def choose_devices(options: TrainerConfig, accelerator: Accelerator) -> int:
    """Return the number of processes to train in, one a device.

    Raises:
        ConfigError: there are fewer devices, or several without data parallel training.
    """
    count = available_devices()[accelerator]
    if options.devices == "auto":
        return 1 if accelerator == "cpu" or options.strategy == "auto" else count
    if options.devices > count:
        noun = {"cpu": "processor cores", "gpu": "GPUs", "mps": "Apple chips"}[accelerator]
        raise ConfigError(
            f"trainer.devices={options.devices}: this machine has {count} {noun}. "
            f"Choose from: auto, 1 to {count}"
        )
    if options.devices > 1 and options.strategy != "ddp":
        raise ConfigError(f"trainer.devices={options.devices}: more than one needs trainer=ddp")
    return options.devices


def choose_precision(options: TrainerConfig, accelerator: Accelerator) -> Precision:
    """Return Lightning's name of the precision; `auto` is bfloat16 where the hardware is fast.

    A CPU has no mixed precision with float16 in torch: it uses bfloat16 instead.

    Raises:
        ConfigError: the accelerator cannot compute in this precision.
    """
    if options.precision == "64-true" and accelerator == "mps":
        raise ConfigError(
            "trainer.precision=64-true: Apple chips have no float64. "
            "Choose from: auto, 32-true, bf16-mixed, 16-mixed"
        )
    if options.precision == "16-mixed" and accelerator == "cpu":
        return "bf16-mixed"
    if options.precision != "auto":
        return options.precision
    is_fast = False
    if accelerator == "gpu":
        is_fast = torch.cuda.is_bf16_supported(False)
    elif accelerator == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # not in torch 2.3
        is_fast = is_fast_at_bf16(torch.cpu.get_capabilities())
    return "bf16-mixed" if is_fast else "32-true"


def keep_precision(
    hardware: Hardware, options: TrainerConfig, signature: Mapping[str, Any]
) -> Hardware:
    """Return the hardware with the precision that `auto` meant where the run began.

    A resumed run may be on a machine whose fastest precision is another one, but computes on as it
    began. `signature` is that of its checkpoint. One that began on another accelerator is not
    resumed.
    """
    began: Any = signature.get("trainer.precision")
    if began == hardware.precision or began not in get_args(Precision):
        return hardware
    if options.precision != "auto" or signature.get("trainer.accelerator") != hardware.accelerator:
        return hardware
    if is_rank_zero():
        print(
            f"trainer.precision=auto: keeps {began}, in which the run began; this machine is "
            f"fastest in {hardware.precision}",
            file=sys.stderr,
            flush=True,
        )
    return replace(hardware, precision=began)


def print_precision(options: TrainerConfig, hardware: Hardware) -> None:
    """Print the precision if it is not the one asked for."""
    if is_rank_zero() and options.precision not in ("auto", hardware.precision):
        print(
            f"trainer.precision={options.precision}: not on a {hardware.accelerator.upper()}; "
            f"the run uses {hardware.precision}",
            flush=True,
        )


def describe_hardware(accelerator: Accelerator) -> dict[str, str | None]:
    """Return the names of the hardware that metrics were computed on: rounding depends on it."""
    return {
        "cpu": cpu_info().get("model name") or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if accelerator == "gpu" else None,
    }


def cpu_info() -> dict[str, str]:
    """Return the fields of /proc/cpuinfo for one core; on other systems than Linux, none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in fields.items()}
