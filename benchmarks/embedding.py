"""What the embedding's gradient costs, dense and by rows: `python benchmarks/embedding.py`.

A batch holds a small part of the vocabulary. Dense, as training has it, every row of the
embedding takes part in each step: its gradient is mostly zeros, and Adam moves it all the same. By
rows, only those of the batch's words do (lazy Adam): fewer numbers, but each is looked for. Both
are timed on the same batches beside a whole step of training: backward of the embedding, the norm
and clipping of its gradient, AdamW.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere

import torch
from torch import Tensor, nn

from benchmarks.clock import interleave, median, median_ratio, seconds_per_pass
from benchmarks.contenders import OURS, plain_model, torch_contenders
from benchmarks.machine import describe_machine, prepare_process
from benchmarks.reviews import VOCAB_SIZE, Sample, load_sample
from benchmarks.tables import markdown_table, report
from src.data.batching import Batch

DENSE, ROWS, SPARSE_ADAM = "dense, fused AdamW", "by rows", "torch.optim.SparseAdam"
SIZE = 128
HEADER = ("vocabulary", "embedding", "a step", "over dense", "of a step of an LSTM's training")
BETAS, EPSILON, LEARNING_RATE = (0.9, 0.999), 1e-8, 1e-3


def main() -> None:
    """Measure, print, and write the table where asked."""
    options = parse()
    prepare_process(options.threads)
    data, sample = load_sample(options.cache_dir, options.batches)
    whole = torch_contenders(plain_model("lstm", SIZE), sample, bf16=False)[OURS]
    lines = []
    for vocab_size in options.vocab_sizes:
        steps = contenders(vocab_size)
        turns = {name: timed(step, sample) for name, step in steps.items()}
        turns[OURS] = lambda seconds: whole.turn(seconds) / len(sample.bucketed)
        rounds = interleave(turns, options.rounds, options.seconds)
        for name in steps:
            share = f"{100 * median_ratio(rounds, name, OURS):.1f} %"
            lines.append(
                (
                    f"{vocab_size:,}",
                    name,
                    f"{1e3 * median(rounds, name):.2f} ms",
                    f"{median_ratio(rounds, name, DENSE):.2f}x",
                    share,
                )
            )
    notes = (
        f"Batches of 64 reviews of {data.corpus.name}, embedding size {SIZE}; the step that shares "
        f"are of has a dense embedding of {VOCAB_SIZE:,} words, which is part of it."
    )
    report(
        [describe_machine(options.threads), notes, markdown_table(HEADER, lines)], options.markdown
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vocab-sizes", nargs="+", type=int, default=[30_000, 100_000])
    parser.add_argument("--batches", type=int, default=4, help="that stand for the epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.8, help="of a turn, at least one pass")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    return parser.parse_args()


Step = Callable[[Tensor, Tensor], None]  # of tokens [time, batch], gradient [time, batch, SIZE]


def contenders(vocab_size: int) -> dict[str, Step]:
    """All ways to bring a gradient to an embedding's weights."""
    return {
        DENSE: torch_step(vocab_size, sparse=False),
        ROWS: rows_step(vocab_size),
        SPARSE_ADAM: torch_step(vocab_size, sparse=True),
    }


def timed(step: Step, sample: Sample) -> Callable[[float], float]:
    """Seconds of a step, the mean over the batches of `sample`."""

    def tokens_and_gradient(batch: Batch) -> tuple[Tensor, Tensor]:
        tokens = batch.tokens.t()  # [time, batch]
        return tokens, torch.randn(*tokens.shape, SIZE)

    pairs = [tokens_and_gradient(batch) for batch in sample.bucketed]

    def one_pass() -> None:
        for tokens, gradient in pairs:
            step(tokens, gradient)

    one_pass()
    return lambda seconds: seconds_per_pass(one_pass, seconds) / len(pairs)


def torch_step(vocab_size: int, *, sparse: bool) -> Step:
    """torch's embedding with dense gradients and AdamW, or sparse ones and SparseAdam."""
    embedding = nn.Embedding(vocab_size, SIZE, padding_idx=0, sparse=sparse)
    optimizer: torch.optim.Optimizer
    if sparse:
        optimizer = torch.optim.SparseAdam(list(embedding.parameters()), lr=LEARNING_RATE)
    else:
        optimizer = torch.optim.AdamW(
            embedding.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True
        )

    def step(tokens: Tensor, gradient: Tensor) -> None:
        optimizer.zero_grad()
        embedding(tokens).backward(gradient)
        grad = embedding.weight.grad
        assert grad is not None
        if sparse:
            embedding.weight.grad = grad = grad.coalesce()
            values = grad.values()
            values.mul_((1.0 / values.norm()).clamp(max=1.0))
        else:
            torch.nn.utils.clip_grad_norm_(embedding.parameters(), 1.0)
        optimizer.step()

    return step


def rows_step(vocab_size: int) -> Step:
    """Lazy Adam by hand: the gradient, its norm and the moments of the batch's words alone."""
    weight, mean, square = (torch.zeros(vocab_size, SIZE) for _ in range(3))
    (beta1, beta2), count = BETAS, 0

    def step(tokens: Tensor, gradient: Tensor) -> None:
        nonlocal count
        count += 1
        rows, places = torch.unique(tokens, return_inverse=True)
        grad = torch.zeros(len(rows), SIZE)
        grad.index_add_(0, places.flatten(), gradient.flatten(0, 1))
        grad.mul_((1.0 / grad.norm()).clamp(max=1.0))
        first = mean.index_select(0, rows).lerp_(grad, 1 - beta1)
        second = square.index_select(0, rows).mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        mean.index_copy_(0, rows, first)
        square.index_copy_(0, rows, second)
        scale = (second / (1 - beta2**count)).sqrt_().add_(EPSILON)
        weight.index_add_(0, rows, first / scale, alpha=-LEARNING_RATE / (1 - beta1**count))

    return step


if __name__ == "__main__":
    main()
