"""Profile a training step and its matrix products: `python benchmarks/profile_step.py`.

For each model, the operations with the most time of their own in a step (torch.profiler), and the
rate of the matrix products of its time steps: a batch of 64 rows by the recurrent weights, and
backward. No layer that multiplies step by step can be faster than those products.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.clock import seconds_per_pass
from benchmarks.contenders import OURS, OURS_BF16, plain_model, torch_contenders
from benchmarks.machine import describe_machine, has_fast_bf16, prepare_process, product_rate
from benchmarks.reviews import BATCH_SIZE, load_sample
from benchmarks.tables import markdown_table, report
from benchmarks.training_speed import GATES

HEADER = ("model", "size", "operation", "share of step time")
PRODUCT_HEADER = ("model", "size", "matmul of a time step", "of 2048 x 2048 rate")


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
                (model, str(size), shape, f"{100 * share:.0f} %")
                for shape, share in step_products(GATES[model] * size, size, dtype, options.seconds)
            ]
    report(
        [
            f"{describe_machine(options.threads)}; {str(dtype).removeprefix('torch.')}",
            markdown_table(HEADER, operations),
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
) -> list[tuple[str, float]]:
    """Return the shapes of a time step's products and their share of the full rate."""
    found = []
    full = product_rate(dtype, seconds)
    for inner, outer in ((size, gates), (gates, size)):
        rows = torch.randn(BATCH_SIZE, inner).to(dtype)
        weights = torch.randn(inner, outer).to(dtype)
        out = torch.empty(BATCH_SIZE, outer, dtype=dtype)
        flops = 2 * BATCH_SIZE * inner * outer
        rate = flops / _seconds(rows, weights, out, seconds)
        found.append((f"{BATCH_SIZE} x {inner} by {inner} x {outer}", rate / full))
    return found


def _seconds(
    rows: torch.Tensor, weights: torch.Tensor, out: torch.Tensor, at_least: float
) -> float:
    def many() -> None:
        for _ in range(100):
            torch.mm(rows, weights, out=out)

    return seconds_per_pass(many, at_least) / 100


if __name__ == "__main__":
    main()
