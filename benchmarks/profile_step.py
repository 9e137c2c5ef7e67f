"""Profile a training step and its matrix products: `python benchmarks/profile_step.py`.

For each model, the operations with the most time of their own in a step (torch.profiler), and the
rate of the matrix products of a time step, forward and backward, on one thread: the rows of the
batch that one thread takes by the recurrent weights. No layer that multiplies step by step can be
faster than those products. The functions are those of `rnn_lab.models.fast.native`.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numba
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.clock import interleave, median, seconds_per_pass
from benchmarks.contenders import OURS, OURS_BF16, plain_model, torch_contenders
from benchmarks.machine import describe_machine, has_fast_bf16, prepare_process, product_rate
from benchmarks.reviews import BATCH_SIZE, load_sample
from benchmarks.tables import markdown_table, report
from benchmarks.training_speed import GATES
from rnn_lab.models.fast import native
from rnn_lab.models.fast.fused_rnn import right_factor
from rnn_lab.models.fast.kernels import as_array, end_brgemm, multiply

HEADER = ("model", "size", "operation", "share of step time")
FUNCTIONS = ("gemm", "brgemm", "brgemm, panels")
PRODUCT_HEADER = ("model", "size", "product of a time step", *FUNCTIONS, "used", "2048 x 2048")
PRODUCT_NOTES = "Products of one thread, in GFLOP/s."

Turn = Callable[[float], float]


def main() -> None:
    """Measure, print the tables, and write them to --markdown."""
    options = parse()
    prepare_process(options.threads)
    _, sample = load_sample(options.cache_dir, options.batches)
    bf16 = has_fast_bf16() and not options.float32
    dtype, name = (torch.bfloat16, OURS_BF16) if bf16 else (torch.float32, OURS)
    operations, products = [], []
    for model in options.models:
        for size in options.sizes:
            config = plain_model(model, size)
            contenders = torch_contenders(config, sample, [options.threads], bf16=bf16)
            turn = contenders[name].turns[options.threads]
            turn(options.seconds)  # allocates memory and builds kernels
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                turn(0.0)
            events = profiler.key_averages()
            total = sum(event.self_cpu_time_total for event in events)
            events = sorted(events, key=lambda event: -event.self_cpu_time_total)
            operations += [
                (model, str(size), event.key, f"{100 * event.self_cpu_time_total / total:.0f} %")
                for event in events[: options.operations]
            ]
            products += [
                (model, str(size), *row)
                for row in step_products(GATES[model] * size, size, dtype, options.seconds)
            ]
    report(
        [
            f"{describe_machine(options.threads)}; {str(dtype).removeprefix('torch.')}",
            markdown_table(HEADER, operations),
            PRODUCT_NOTES,
            markdown_table(PRODUCT_HEADER, products),
        ],
        options.markdown,
    )


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    models = ["lstm", "gru"]
    parser.add_argument("--models", nargs="+", default=models, choices=[*models, "rnn"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128], metavar="SIZE")
    parser.add_argument("--float32", action="store_true", help="even if bfloat16 is faster")
    parser.add_argument("--batches", type=int, default=4, help="that represent the epoch")
    parser.add_argument("--operations", type=int, default=8, help="rows per model")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables to FILE too"
    )
    return parser.parse_args()


def step_products(
    gates: int, size: int, dtype: torch.dtype, seconds: float
) -> list[tuple[str, ...]]:
    """Return rows below PRODUCT_HEADER, without model and size: of a step forward and backward."""
    first, last = native.batch_pieces(BATCH_SIZE)[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    full = product_rate(dtype, seconds)
    rows = []
    for inner, outer in ((size, gates), (gates, size)):
        shape = (last - first, inner, outer)
        turns = {name: _turn(shape, found, dtype) for name, found in functions(dtype, size).items()}
        rounds = interleave(turns, 3, seconds / 3)
        flops = 2 * (last - first) * inner * outer
        rates = {name: f"{flops / median(rounds, name) / 1e9:.0f}" for name in turns}
        rows.append(
            (
                f"{shape[0]} x {inner} by {inner} x {outer}",
                *(rates.get(name, "-") for name in FUNCTIONS),
                used(dtype, size),
                f"{full / 1e9:.0f}",
            )
        )
    torch.set_num_threads(threads)
    return rows


def functions(dtype: torch.dtype, size: int) -> dict[str, native.Products]:
    """Return the functions of FUNCTIONS that can multiply that type here."""
    found = native.products(dtype, size, size)
    brgemm = native.brgemm_address(dtype)
    if found is None:
        return {}
    empty = native.Products(0, 0, 0, found.release, 0)
    named = {"gemm": empty._replace(gemm=found.gemm)} if found.gemm else {}
    if brgemm:
        named["brgemm"] = empty._replace(step=brgemm)
    if brgemm and dtype != torch.bfloat16:
        named["brgemm, panels"] = empty._replace(step=brgemm, panel=native.PANEL_COLUMNS)
    return named


def used(dtype: torch.dtype, size: int) -> str:
    """Return which of FUNCTIONS the layers call in a time step."""
    found = native.products(dtype, size, size)
    if found is None:
        return "-"
    return FUNCTIONS[0 if not found.step else 2 if found.panel else 1]


@numba.njit
def _multiply_often(times: int, gemms: Any, left: Any, right: Any, out: Any) -> None:
    for _ in range(times):
        multiply(gemms.step, gemms.gemm, gemms.panel, left, right, out, 1)
    end_brgemm(gemms)


def _turn(shape: tuple[int, int, int], by: native.Products, dtype: torch.dtype) -> Turn:
    """Return a turn of the product of [m, k] and [k, n]: from the least seconds to those of one."""
    m, k, n = shape
    out = torch.zeros(m, n)
    left = torch.randn(m, k).to(dtype)
    right = right_factor(torch.randn(k, n).to(dtype), by.step, by.panel)
    arrays = as_array(left), right, as_array(out)

    def many() -> None:
        _multiply_often(100, by, *arrays)

    many()  # compiles
    return lambda seconds: seconds_per_pass(many, seconds) / 100


if __name__ == "__main__":
    main()
