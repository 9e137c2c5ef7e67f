"""Measure compiled dropout and pooling on a CPU: `python benchmarks/dropout_pooling.py`.

Both go over the vectors or outputs of every step of a batch, and take no product: as tensor
operations they are limited by memory, which each operation reads and writes again. Timed are
forward and backward of each, and of classifiers with either form of both.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.clock import interleave, median, median_ratio, seconds_per_pass
from benchmarks.contenders import plain_model
from benchmarks.machine import describe_machine, prepare_process
from benchmarks.reviews import load_sample
from benchmarks.tables import markdown_table, report
from rnn_lab.data.batches import Batch
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.functional import Dropout, dropout, dropout_by_mask
from rnn_lab.models.pooling import pool

OPERATIONS, COMPILED = "tensor operations", "compiled"
HEADER = ("what", "features", "numbers", OPERATIONS, COMPILED, "ratio")
POOLINGS = ("max", "last_max_mean")
# Of classifiers, with 128 units: model.pooling and model.bidirectional.
CLASSIFIERS = (("last", False), ("max", True), ("last_max_mean", False))

Function = Callable[[Tensor, Tensor], Tensor]  # of sequences [batch, time, features] and lengths
Turn = Callable[[float], float]


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    prepare_process(options.threads)
    data, sample = load_sample(options.cache_dir, options.batches)
    batches = sample.bucketed
    turns: dict[tuple[str, str, torch.dtype], dict[str, Turn]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for what, functions in contenders().items():
            for features in options.features:
                turns[what, str(features), dtype] = {
                    name: timed(function, batches, features, dtype)
                    for name, function in functions.items()
                }
        for pooling, bidirectional in CLASSIFIERS:
            both = str(bidirectional).lower()
            what = f"GRU, `model.pooling={pooling} model.bidirectional={both}`"
            turns[what, "128", dtype] = {
                name: timed_classifier(kind, pooling, bidirectional, batches, dtype)
                for name, kind in ((OPERATIONS, _ByOperations), (COMPILED, RecurrentClassifier))
            }
    lines = []
    for (what, size, dtype), of_both in turns.items():
        rounds = interleave(of_both, options.rounds, options.seconds)
        times = (f"{1e3 * median(rounds, name):.2f} ms" for name in of_both)
        ratio = f"{median_ratio(rounds, OPERATIONS, COMPILED):.2f}x"
        lines.append((what, size, str(dtype).removeprefix("torch."), *times, ratio))
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
            OPERATIONS: lambda x, lengths: dropout_by_mask(x, 2**15, 2.0),
            COMPILED: lambda x, lengths: dropout(x, 0.5, training=True),
        }
    }
    for name in POOLINGS:
        both = {OPERATIONS: pooling(name, False), COMPILED: pooling(name, True)}
        functions[f"`model.pooling={name}`"] = both
    return functions


def timed(function: Function, batches: list[Batch], features: int, dtype: torch.dtype) -> Turn:
    """Return a turn that measures the seconds of both passes, the mean over the batches."""
    cases = []
    for batch in batches:
        # In the order of memory [time, batch], as recurrent layers leave it.
        memory = torch.randn(int(batch.lengths.max()), len(batch.lengths), features).to(dtype)
        inputs = memory.transpose(0, 1).requires_grad_()
        gradient = torch.randn_like(function(inputs, batch.lengths))
        cases.append((inputs, batch.lengths, gradient))

    def one_pass() -> None:
        for inputs, lengths, gradient in cases:
            torch.autograd.grad(function(inputs, lengths), inputs, gradient)

    one_pass()
    return lambda seconds: seconds_per_pass(one_pass, seconds) / len(cases)


class _DropoutByOperations(Dropout):
    def forward(self, inputs: Tensor) -> Tensor:
        return dropout_by_mask(inputs, 2**15, 2.0) if self.training else inputs


class _ByOperations(RecurrentClassifier):
    """A classifier with a dropout of a half and its pooling as tensor operations."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.dropout = _DropoutByOperations(0.5)

    def pool(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        both = self.recurrent.bidirectional
        return pool(self.pooling, None, outputs, lengths, both, use_numba=False)


def timed_classifier(
    kind: type[RecurrentClassifier],
    pooling: str,
    bidirectional: bool,
    batches: list[Batch],
    dtype: torch.dtype,
) -> Turn:
    """Return a turn that measures the seconds of a step without the optimizer's."""
    changes = {"pooling": pooling, "bidirectional": bidirectional, "dropout": 0.5}
    config = plain_model("gru", 128).model_copy(update=changes)
    model = kind(config, int(max(batch.tokens.max() for batch in batches)) + 1, 2)

    def one_pass() -> None:
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits = model(batch.tokens, batch.lengths)
            model.zero_grad()
            F.cross_entropy(logits.float(), batch.labels).backward()

    one_pass()
    return lambda seconds: seconds_per_pass(one_pass, seconds) / len(batches)


if __name__ == "__main__":
    main()
