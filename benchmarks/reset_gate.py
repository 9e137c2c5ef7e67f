"""Measure a GRU with the reset gate before the product: `python benchmarks/reset_gate.py`.

The GRU layer alone, forward and backward over full sequences, with `model.reset_after=false` and
`true`. The two take turns; a ratio is the median of the ratios within rounds.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from benchmarks.clock import interleave, median, median_ratio, seconds_per_pass
from benchmarks.machine import describe_machine, prepare_process
from benchmarks.tables import markdown_table, report
from rnn_lab.models.layers import GRU

RESETS: tuple[Literal["before", "after"], ...] = ("before", "after")
PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
HEADER = ("size", "directions", "precision", "before", "after", "before / after")
NOTES = """\
The GRU layer alone, forward and backward, {batch} sequences of {steps} steps. Reset before and \
after the product in steps/s, where a step is one time step of the batch. The target is 70 %."""


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    prepare_process(options.threads)
    lines = []
    for size in options.sizes:
        for directions in (1, 2):
            for dtype, precision in PRECISIONS.items():
                print(f"{size}/{size}, {directions}, {precision}", file=sys.stderr)
                lines.append(measure(size, directions, dtype, options))
    notes = NOTES.format(batch=options.batch_size, steps=options.steps)
    table = markdown_table(HEADER, lines)
    report([describe_machine(options.threads), notes, table], options.markdown)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256], metavar="SIZE")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=400, help="time steps in every sequence")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn, at least one pass")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    return parser.parse_args()


def measure(
    size: int, directions: int, dtype: torch.dtype, options: argparse.Namespace
) -> tuple[str, ...]:
    """Return a row below HEADER."""
    inputs = torch.randn(options.batch_size, options.steps, size, requires_grad=True)
    lengths = torch.full((options.batch_size,), options.steps)

    def steps_per_second(reset: Literal["before", "after"]) -> Callable[[float], float]:
        layer = GRU(size, size, bidirectional=directions == 2, reset_after=reset == "after")

        def one_pass() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                outputs, _ = layer(inputs, lengths)
            leaves = [inputs, *layer.parameters()]
            torch.autograd.grad(outputs, leaves, torch.ones_like(outputs))

        one_pass()  # allocates
        return lambda seconds: options.steps / seconds_per_pass(one_pass, seconds)

    turns = {reset: steps_per_second(reset) for reset in RESETS}
    rounds = interleave(turns, options.rounds, options.seconds)
    return (
        f"{size}/{size}",
        str(directions),
        PRECISIONS[dtype],
        *(f"{median(rounds, reset):,.0f}" for reset in RESETS),
        f"{100 * median_ratio(rounds, 'before', 'after'):.0f} %",
    )


if __name__ == "__main__":
    main()
