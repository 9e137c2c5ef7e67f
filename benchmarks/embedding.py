"""What the embedding's gradient costs, dense and by rows: `python benchmarks/embedding.py`.

A batch holds a small part of the vocabulary. Dense, every row of the embedding takes part in each
step: its gradient is mostly zeros, and AdamW moves it all the same. By rows
(`optimizer.embedding_gradient=rows`), only those of the batch's words do, brought to where the
dense optimizer has them. Timed are embedding only (look-up, its backward, the norm and
clipping of its gradient, AdamW), and a whole step of LSTM training step.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.clock import interleave, median, median_ratio, seconds_per_pass
from benchmarks.contenders import plain_model
from benchmarks.machine import describe_machine, prepare_process
from benchmarks.reviews import Sample, load_sample
from benchmarks.tables import markdown_table, report
from rnn_lab.data.samplers import Batch
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import OptimizerConfig
from rnn_lab.models.embedding import Embedding, clip_params
from rnn_lab.models.optimizers import build_optimizer

DENSE, ROWS, SPARSE_ADAM = "dense", "lazy", "torch.optim.SparseAdam"
EMBEDDING, TRAINING = "embedding only", "LSTM training step"
SIZE = 128
HEADER = ("vocabulary", "what", "gradient", "per step", "vs dense", "unique tokens per batch")


def main() -> None:
    """Measure, print, and write the table where asked."""
    options = parse()
    prepare_process(options.threads)
    lines = []
    for vocab_size in options.vocab_sizes:
        data, sample = load_sample(options.cache_dir, options.batches, vocab_size)
        turns = {
            (what, gradient): timed(step, sample)
            for (what, gradient), step in contenders(vocab_size, sample).items()
        }
        rounds = interleave(turns, options.rounds, options.seconds)
        words = [len(batch.tokens.unique()) for batch in sample.bucketed]
        lines += [
            (
                f"{vocab_size:,}",
                what,
                gradient,
                f"{1e3 * median(rounds, (what, gradient)):.2f} ms",
                f"{median_ratio(rounds, (what, gradient), (what, DENSE)):.2f}x",
                f"{sum(words) / len(words):,.0f}",
            )
            for what, gradient in turns
        ]
    notes = f"Batches of 64 reviews of {data.corpus.name}, sizes {SIZE}/{SIZE}."
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


Step = Callable[[int], None]  # with the batch of that number


def contenders(vocab_size: int, sample: Sample) -> dict[tuple[str, str], Step]:
    """What is timed, each with each kind of gradient."""
    batches = sample.bucketed
    steps: dict[tuple[str, str], Step] = {}
    for gradient in (DENSE, ROWS, SPARSE_ADAM):
        steps[EMBEDDING, gradient] = embedding_step(gradient, vocab_size, batches)
    for gradient in (DENSE, ROWS):
        steps[TRAINING, gradient] = training_step(gradient, vocab_size, batches)
    return steps


def timed(step: Step, sample: Sample) -> Callable[[float], float]:
    """Seconds of a step, the mean over the batches of `sample`."""
    numbers = range(len(sample.bucketed))

    def one_pass() -> None:
        for number in numbers:
            step(number)

    one_pass()
    return lambda seconds: seconds_per_pass(one_pass, seconds) / len(numbers)


def embedding_step(gradient: str, vocab_size: int, batches: list[Batch]) -> Step:
    """Our optimizer's step for an embedding, or SparseAdam's."""
    tokens = [batch.tokens.t() for batch in batches]  # each [time, batch]
    slopes = [torch.randn(*one.shape, SIZE) for one in tokens]
    embedding: nn.Embedding
    optimizer: torch.optim.Optimizer
    if gradient == SPARSE_ADAM:
        embedding = nn.Embedding(vocab_size, SIZE, padding_idx=0, sparse=True)
        optimizer = torch.optim.SparseAdam(list(embedding.parameters()), lr=1e-3)
    else:
        embedding = Embedding(vocab_size, SIZE)
        optimizer = build_optimizer(OptimizerConfig(), embedding, by_rows=gradient == ROWS)

    def step(number: int) -> None:
        optimizer.zero_grad()
        embedding(tokens[number]).backward(slopes[number])
        clip_and_step(optimizer, embedding)

    return step


def training_step(gradient: str, vocab_size: int, batches: list[Batch]) -> Step:
    """A step of LSTM training step: forward, cross-entropy, backward, clipping, AdamW."""
    model = RecurrentClassifier(plain_model("lstm", SIZE), vocab_size, num_classes=2)
    optimizer = build_optimizer(OptimizerConfig(), model, by_rows=gradient == ROWS)

    def step(number: int) -> None:
        batch = batches[number]
        optimizer.zero_grad()
        F.cross_entropy(model(batch.tokens, batch.lengths), batch.labels).backward()
        clip_and_step(optimizer, model)

    return step


def clip_and_step(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """As train.py does by default."""
    parameters: list[Tensor] = clip_params(model.parameters())
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


if __name__ == "__main__":
    main()
