"""Measure dense and lazy updates of the embedding: `python benchmarks/embedding.py`.

A batch contains a small part of the vocabulary. With a dense gradient, AdamW updates every row of
the embedding in each step, although most of the gradient is zero. With lazy updates
(`optimizer.sparse_embedding=true`) it updates only the rows of the batch's words, to the values
that the dense optimizer gives them. Two things are timed: the embedding alone (look-up, backward,
norm and clipping of the gradient, AdamW), also that of torch, and a whole training step of an LSTM,
in float32 and, on processors with fast bfloat16, under autocast to it.
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
from benchmarks.machine import describe_machine, has_fast_bf16, prepare_process
from benchmarks.reviews import Sample, load_sample
from benchmarks.tables import markdown_table, report
from rnn_lab.data.batches import Batch
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import OptimizerConfig
from rnn_lab.models.embedding import Embedding, clip_params
from rnn_lab.models.optimizers import build_optimizer

DENSE, LAZY, TORCH, SPARSE_ADAM = "dense", "lazy", "torch.nn.Embedding", "torch.optim.SparseAdam"
EMBEDDING, TRAINING = "embedding only", "LSTM training step"
TRAINING_BF16 = f"{TRAINING}, bfloat16"
SIZE = 128
HEADER = ("vocabulary", "what", "gradient", "per step", "vs dense", "unique tokens per batch")


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
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
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vocab-sizes", nargs="+", type=int, default=[30_000, 100_000])
    parser.add_argument("--batches", type=int, default=4, help="that represent the epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.8, help="of a turn, at least one pass")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    return parser.parse_args()


Step = Callable[[int], None]  # on the batch with that index


def contenders(vocab_size: int, sample: Sample) -> dict[tuple[str, str], Step]:
    """Build each step with each kind of gradient."""
    batches = sample.bucketed
    steps: dict[tuple[str, str], Step] = {}
    for gradient in (DENSE, LAZY, TORCH, SPARSE_ADAM):
        steps[EMBEDDING, gradient] = embedding_step(gradient, vocab_size, batches)
    for gradient in (DENSE, LAZY):
        steps[TRAINING, gradient] = training_step(gradient, vocab_size, batches)
        if has_fast_bf16():
            steps[TRAINING_BF16, gradient] = training_step(gradient, vocab_size, batches, bf16=True)
    return steps


def timed(step: Step, sample: Sample) -> Callable[[float], float]:
    """Return a turn that measures the seconds of a step, the mean over the batches of `sample`."""
    numbers = range(len(sample.bucketed))

    def one_pass() -> None:
        for number in numbers:
            step(number)

    one_pass()
    return lambda seconds: seconds_per_pass(one_pass, seconds) / len(numbers)


def embedding_step(gradient: str, vocab_size: int, batches: list[Batch]) -> Step:
    """Build our optimizer's step for an embedding, or SparseAdam's."""
    tokens = [batch.tokens.t() for batch in batches]  # each [time, batch]
    gradients = [torch.randn(*one.shape, SIZE) for one in tokens]
    embedding: nn.Embedding
    optimizer: torch.optim.Optimizer
    if gradient == SPARSE_ADAM:
        embedding = nn.Embedding(vocab_size, SIZE, padding_idx=0, sparse=True)
        optimizer = torch.optim.SparseAdam(list(embedding.parameters()), lr=1e-3)
    else:
        if gradient == TORCH:
            embedding = nn.Embedding(vocab_size, SIZE, padding_idx=0)
        else:
            embedding = Embedding(vocab_size, SIZE)
        optimizer = build_optimizer(OptimizerConfig(), embedding, lazy=gradient == LAZY)

    def step(number: int) -> None:
        optimizer.zero_grad()
        embedding(tokens[number]).backward(gradients[number])
        clip_and_step(optimizer, embedding)

    return step


def training_step(
    gradient: str, vocab_size: int, batches: list[Batch], *, bf16: bool = False
) -> Step:
    """Build the training step of an LSTM: forward, cross-entropy, backward, clipping, AdamW."""
    model = RecurrentClassifier(plain_model("lstm", SIZE), vocab_size, num_classes=2)
    optimizer = build_optimizer(OptimizerConfig(), model, lazy=gradient == LAZY)

    def step(number: int) -> None:
        batch = batches[number]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(batch.tokens, batch.lengths).float()  # [batch, num_classes]
        F.cross_entropy(logits, batch.labels).backward()
        clip_and_step(optimizer, model)

    return step


def clip_and_step(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Clip and step as train.py does by default."""
    parameters: list[Tensor] = clip_params(model.parameters())
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


if __name__ == "__main__":
    main()
