"""Measure compiled dropout and pooling on a CPU: `python benchmarks/dropout_pooling.py`.

Both go over the vectors or outputs of every step of a batch, and take no product: as tensor
operations they are limited by memory, which each operation reads and writes again. Timed are
forward and backward.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.clock import interleave, median, median_ratio, seconds_per_pass
from benchmarks.machine import describe_machine, prepare_process
from benchmarks.reviews import load_sample
from benchmarks.tables import markdown_table, report
from rnn_lab.models.functional import dropout
from rnn_lab.models.pooling import pool

HEADER = ("what", "features", "numbers", "tensor operations", "compiled", "ratio")
OPERATIONS, COMPILED = "tensor operations", "compiled"
POOLINGS = ("max", "last_max_mean")

Function = Callable[[Tensor, Tensor], Tensor]  # of sequences [batch, time, features] and lengths


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    prepare_process(options.threads)
    data, sample = load_sample(options.cache_dir, options.batches)
    lengths = [batch.lengths for batch in sample.bucketed]
    lines = []
    for what, functions in contenders().items():
        for features in options.features:
            for dtype in (torch.float32, torch.bfloat16):
                turns = {
                    name: timed(function, lengths, features, dtype)
                    for name, function in functions.items()
                }
                rounds = interleave(turns, options.rounds, options.seconds)
                times = (f"{1e3 * median(rounds, name):.2f} ms" for name in turns)
                ratio = f"{median_ratio(rounds, OPERATIONS, COMPILED):.1f}x"
                kind = str(dtype).removeprefix("torch.")
                lines.append((what, str(features), kind, *times, ratio))
    notes = f"Batches of 64 reviews of {data.corpus.name}, forward and backward."
    report(
        [describe_machine(options.threads), notes, markdown_table(HEADER, lines)], options.markdown
    )


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--features", nargs="+", type=int, default=[128, 1024])
    parser.add_argument("--batches", type=int, default=4, help="that represent the epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="of a turn, at least one pass")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    return parser.parse_args()


def contenders() -> dict[str, dict[str, Function]]:
    """Return both forms of dropout and of each pooling."""

    def pooling(name: str, use_numba: bool) -> Function:
        return lambda x, lengths: pool(name, None, x, lengths, False, use_numba=use_numba)

    functions: dict[str, dict[str, Function]] = {
        "dropout": {
            OPERATIONS: lambda x, lengths: F.dropout(x, 0.5),
            COMPILED: lambda x, lengths: dropout(x, 0.5, training=True),
        }
    }
    for name in POOLINGS:
        both = {OPERATIONS: pooling(name, False), COMPILED: pooling(name, True)}
        functions[f"`model.pooling={name}`"] = both
    return functions


def timed(
    function: Function, lengths: list[Tensor], features: int, dtype: torch.dtype
) -> Callable[[float], float]:
    """Return a turn that measures the seconds of both passes, the mean over the batches."""
    cases = []
    for of_batch in lengths:
        # In the order of memory [time, batch], as recurrent layers leave it.
        memory = torch.randn(int(of_batch.max()), len(of_batch), features).to(dtype)
        inputs = memory.transpose(0, 1).requires_grad_()
        cases.append((inputs, of_batch, torch.randn_like(function(inputs, of_batch))))

    def one_pass() -> None:
        for inputs, of_batch, gradient in cases:
            torch.autograd.grad(function(inputs, of_batch), inputs, gradient)

    one_pass()
    return lambda seconds: seconds_per_pass(one_pass, seconds) / len(cases)


if __name__ == "__main__":
    main()
