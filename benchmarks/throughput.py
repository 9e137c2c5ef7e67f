"""Compare training speed with peers: `python benchmarks/throughput.py`.

For each model and size, all contenders, in one and in both directions, train in turn on the same
batches, round after round. A number is the median over rounds, a ratio the median of the ratios
within rounds.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from benchmarks.clock import interleave
from benchmarks.contenders import (
    PACKED,
    PRODUCT,
    PRODUCT_BF16,
    Contender,
    KerasProcess,
    plain_model,
    torch_contenders,
)
from benchmarks.machine import describe_machine, has_fast_bf16, prepare_process, product_rate
from benchmarks.plain_process import PlainProcess
from benchmarks.reviews import BATCH_SIZE, MAX_LENGTH, Sample, load_sample
from benchmarks.tables import markdown_table, report
from benchmarks.training_speed import HEADER, TARGET_HEADER, Key, Rounds, table_rows, target_rows

NOTES = """\
{reviews} reviews of {corpus} in {batches} batches of {batch_size}, cut to {max_length} tokens, \
{tokens:.0f} tokens per review. All torch contenders but "random batches" have the same bucketed \
batches, so that packed, unpacked and ours differ in the recurrent layer alone; all have the same \
optimizer. "torch, packed" runs in a process with torch's default settings, all others with those \
of train.py. "random batches" are the same reviews shuffled. Unpacked and random batches read the \
padding as text and give wrong states: they are measured for their speed. Keras masks the padding, \
on our batches and on batches padded to {max_length}.

FLOPs are those of the recurrent layer on real tokens: forward 2 * gates * hidden * \
(input + hidden) per token and direction, backward twice that. Their share is relative to the \
rate of a 2048 x 2048 matrix product in the same round (bfloat16 for bfloat16, else float32)."""


def main() -> None:
    """Measure, print the tables, and write them to --markdown."""
    options = parse()
    prepare_process(options.threads)
    started = time.perf_counter()
    data, sample = load_sample(options.cache_dir, options.batches)
    groups = []
    with tempfile.TemporaryDirectory() as folder:
        plain = PlainProcess(options.threads)
        keras = KerasProcess(options.threads, Path(folder)) if options.keras else None
        if keras:
            keras.share(sample)
        for size in options.sizes:
            for model in options.models:
                seconds = time.perf_counter() - started
                print(f"{seconds:4.0f} s  {model} {size}/{size}", file=sys.stderr)
                groups.append(measure(model, size, sample, options, plain, keras))
        plain.close()
        if keras:
            keras.close()
    paragraphs = [
        describe_machine(options.threads) + ("" if options.keras else "; without Keras"),
        NOTES.format(
            corpus="IMDB" if data.corpus.name == "imdb" else "the synthetic demo corpus",
            reviews=sample.reviews,
            batches=len(sample.bucketed),
            batch_size=BATCH_SIZE,
            max_length=MAX_LENGTH,
            tokens=sample.tokens / sample.reviews,
        ),
        markdown_table(HEADER, table_rows(groups)),
        markdown_table(TARGET_HEADER, target_rows(groups)),
        f"Measured in {time.perf_counter() - started:,.0f} seconds.",
    ]
    report(paragraphs, options.markdown)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    has_keras = importlib.util.find_spec("keras") is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    models = ["lstm", "gru", "rnn"]
    parser.add_argument("--models", nargs="+", default=models, choices=models)
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256], metavar="SIZE")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batches", type=int, default=8, help="that represent the epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="of a turn, at least one pass")
    parser.add_argument(
        "--keras",
        action=argparse.BooleanOptionalAction,
        default=has_keras,
        help="include Keras (requirements-benchmark.txt); default: if it is installed",
    )
    parser.add_argument("--quick", action="store_true", help="one short batch, as a check")
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables to FILE too"
    )
    options = parser.parse_args()
    if options.keras and not has_keras:
        parser.error("--keras: not installed; pip install -r requirements-benchmark.txt")
    if options.quick:
        options.batches, options.rounds, options.seconds = 1, 1, 0.0
    return options


def measure(
    model: str,
    size: int,
    sample: Sample,
    options: argparse.Namespace,
    plain: PlainProcess,
    keras: KerasProcess | None,
) -> Rounds:
    """Measure all contenders of one model and size in turn."""
    bf16 = has_fast_bf16()
    contenders: dict[Key, Contender] = {}
    if keras:
        keras.ask("clear")
    for directions in (1, 2):
        config = plain_model(model, size, bidirectional=directions == 2)
        named = torch_contenders(config, sample, bf16=bf16)
        named[PACKED] = plain.packed(config, sample)
        if keras:
            named |= keras.contenders(config, sample)
        contenders |= {Key(name, directions): contender for name, contender in named.items()}

    def reviews_per_second(contender: Contender) -> Callable[[float], float]:
        return lambda seconds: sample.reviews / contender.turn(seconds)

    turns = {Key(PRODUCT): lambda seconds: product_rate(torch.float32, seconds)}
    if bf16:
        turns[Key(PRODUCT_BF16)] = lambda seconds: product_rate(torch.bfloat16, seconds)
    turns |= {key: reviews_per_second(contender) for key, contender in contenders.items()}
    return Rounds(
        model=model,
        size=size,
        tokens_per_review=sample.tokens / sample.reviews,
        padding={key: contender.padding for key, contender in contenders.items()},
        rounds=interleave(turns, options.rounds, options.seconds),
    )


if __name__ == "__main__":
    main()
