import os
from typing import get_args

import pytest
import torch

from rnn_lab.errors import ConfigError
from rnn_lab.process import is_fast_at_bf16
from rnn_lab.training.config import Precision, TrainerConfig
from rnn_lab.training.hardware import (
    Hardware,
    available_devices,
    choose_accelerator,
    choose_devices,
    choose_precision,
    keep_precision,
    print_precision,
    resolve_hardware,
)
from tests.training.small_trainer import small_trainer


def test_cpu_is_always_available():
    assert available_devices()["cpu"] == os.cpu_count()
    assert choose_accelerator(TrainerConfig(accelerator="cpu")) == "cpu"


def test_auto_is_an_available_accelerator():
    assert choose_accelerator(TrainerConfig()) in available_devices()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpu_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu: .* Choose from: auto, cpu"):
        choose_accelerator(TrainerConfig(accelerator="gpu"))


def test_more_devices_than_available_are_refused():
    devices = (os.cpu_count() or 1) + 1
    with pytest.raises(ConfigError, match=f"trainer.devices={devices}"):
        choose_devices(TrainerConfig(devices=devices, strategy="ddp"), "cpu")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processor cores")
def test_several_devices_need_data_parallel_training():
    with pytest.raises(ConfigError, match="trainer=ddp"):
        choose_devices(TrainerConfig(devices=2), "cpu")
    assert choose_devices(TrainerConfig(devices=2, strategy="ddp"), "cpu") == 2
    assert choose_devices(TrainerConfig(devices="auto"), "cpu") == 1


def test_precision():
    assert choose_precision(TrainerConfig(precision="32-true"), "cpu") == "32-true"
    assert choose_precision(TrainerConfig(), "mps") == "32-true"
    assert choose_precision(TrainerConfig(), "cpu") in {"bf16-mixed", "32-true"}
    assert choose_precision(TrainerConfig(precision="16-mixed"), "gpu") == "16-mixed"
    with pytest.raises(ConfigError, match=r"precision=64-true: .* Choose from: auto, 32-true"):
        choose_precision(TrainerConfig(precision="64-true"), "mps")


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_precision_of_a_run_is_the_one_that_lightning_computes_in(tmp_path, precision, capsys):
    """result.json has it, and a CPU does not compute in each of them."""
    options = TrainerConfig(precision=precision, accelerator="cpu")
    hardware = resolve_hardware(options)
    assert small_trainer(tmp_path, precision=precision).precision == hardware.precision
    print_precision(options, hardware)
    said = f"trainer.precision={precision}: not on a CPU; the run uses {hardware.precision}\n"
    assert capsys.readouterr().out == ("" if precision == hardware.precision else said)


@pytest.mark.parametrize("began", ["32-true", "bf16-mixed"])
def test_a_resumed_run_keeps_the_precision_that_auto_meant_where_it_began(began, capsys):
    options = TrainerConfig(accelerator="cpu")
    for fastest in ("32-true", "bf16-mixed"):
        here = Hardware("cpu", 1, fastest)
        signature = {"trainer.accelerator": "cpu", "trainer.precision": began}
        assert keep_precision(here, options, signature) == Hardware("cpu", 1, began)
        said = capsys.readouterr().err
        assert said.startswith(f"trainer.precision=auto: keeps {began}") == (fastest != began)
        elsewhere = signature | {"trainer.accelerator": "gpu"}
        given = TrainerConfig(accelerator="cpu", precision=fastest)
        for changed in ((options, elsewhere), (given, signature), (options, {})):
            assert keep_precision(here, *changed) is here
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("cpu", "fast"),
    [
        ({"cpu_name": "AMD EPYC 9B14", "avx512_bf16": True, "amx_tile": False}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_tile": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_tile": False}, False),
        ({"cpu_name": "AMD EPYC 7B13", "avx512_bf16": False, "amx_tile": False}, False),
        ({"cpu_name": "Apple M2", "arm_bf16": True}, False),
    ],
)
def test_cpus_that_are_fast_at_bfloat16(cpu: dict[str, object], fast: bool):
    assert is_fast_at_bf16(cpu) is fast


def test_torch_describes_this_cpu_as_expected():
    assert isinstance(torch.cpu.get_capabilities()["cpu_name"], str)
