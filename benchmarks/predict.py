"""Measure prediction speed: `python benchmarks/predict.py`.

Reviews/s over a file, from reading a line to its probabilities, as in predict.py; and the latency
of one review in a process that has loaded the model. The packed peers are the same network with the
same weights on torch's packed sequences: in our batches, of texts of similar length, and in batches
of texts as they come, as in textbooks. Each has the number of threads that is faster for it.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch

from benchmarks.clock import interleave, median, median_ratio
from benchmarks.contenders import thread_counts
from benchmarks.machine import describe_machine, has_fast_bf16, prepare_process
from benchmarks.peers import PackedLayer
from benchmarks.reviews import load_reviews
from benchmarks.tables import markdown_table, report
from benchmarks.training_speed import Key, fastest_keys
from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.readers.records import BadRow, ReadOptions, Record, RecordReader
from rnn_lab.inference.batch_predict import classify, predict_rows
from rnn_lab.inference.load import LoadedModel, load_model
from rnn_lab.inference.predictor import BFLOAT16
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig

OURS, OURS_BF16 = "ours, float32", "ours, bfloat16"
PACKED, IN_ORDER = "torch, packed, our batches", "torch, packed, as they come"
BATCH_SIZE = 256  # the default of predict.py
HEADER = (
    *("model", "contender", "threads", "reviews/s", "vs packed, as they come"),
    *("one review, p50", "one review, p99"),
)
NOTES = """\
{reviews:,} test reviews of {corpus} in a .jsonl file, in batches of {batch_size}; \
{singles:,} of them one at a time. The peers are in float32."""


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    prepare_process(options.threads)
    data = load_reviews(options.cache_dir)
    assert data.corpus.test is not None
    count = len(data.corpus.test)
    rows = np.linspace(0, count - 1, min(options.reviews, count)).astype(int)
    texts = [data.corpus.test.texts[row] for row in rows]
    runs = [load_model(options.run, "cpu")] if options.run else fresh_runs(data, options.models)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reviews.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        for run in runs:
            print(run.model_config.name, file=sys.stderr)
            lines += measure(run, path, texts, options)
    notes = NOTES.format(
        reviews=len(texts),
        corpus=data.corpus.name,
        batch_size=BATCH_SIZE,
        singles=min(options.singles, len(texts)),
    )
    table = markdown_table(HEADER, lines)
    report([describe_machine(options.threads), notes, table], options.markdown)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    models = ["lstm", "gru", "rnn"]
    parser.add_argument("--models", nargs="+", default=models, choices=models)
    parser.add_argument("--run", help="a finished run instead of models with random weights")
    parser.add_argument("--reviews", type=int, default=2_000, help="number in the file")
    parser.add_argument("--singles", type=int, default=300, help="classified one at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    return parser.parse_args()


def fresh_runs(data: TextDataModule, models: list[str]) -> list[LoadedModel]:
    """Build models of the default sizes with random weights, as fast as trained ones."""
    runs = []
    for name in models:
        config = ModelConfig.model_validate({"name": name})
        model = RecurrentClassifier(config, data.vocab_size, data.num_classes).eval()
        runs.append(
            LoadedModel(
                model=model,
                text_encoder=data.text_encoder,
                class_names=data.class_names,
                model_config=config,
                data_config=data.config,
                corpus_fingerprint=data.corpus.fingerprint,
                path=Path("untrained"),
            )
        )
    return runs


def with_packed_layer(run: LoadedModel) -> LoadedModel:
    """Return the same run on torch's packed sequences."""
    model = copy.deepcopy(run.model)
    model.recurrent = PackedLayer(model.recurrent)  # type: ignore[assignment]
    return dataclasses.replace(run, model=model.eval())


def measure(
    run: LoadedModel, path: Path, texts: list[str], options: argparse.Namespace
) -> list[tuple[str, ...]]:
    """Return the rows of one model below HEADER."""
    packed = with_packed_layer(run)
    contenders = {OURS: run, PACKED: packed, IN_ORDER: packed}
    if has_fast_bf16():
        contenders[OURS_BF16] = dataclasses.replace(run, precision=BFLOAT16)

    def reviews_per_second(name: str, threads: int) -> Callable[[float], float]:
        def turn(seconds: float) -> float:
            torch.set_num_threads(threads)
            started = time.perf_counter()
            rows = iter(RecordReader(path, ReadOptions("jsonl", "utf-8"), labelled=False))
            predict = predict_in_order if name == IN_ORDER else predict_rows
            total = sum(1 for _ in predict(contenders[name], rows, BATCH_SIZE))
            return total / (time.perf_counter() - started)

        return turn

    turns = {
        Key(name, threads=threads): reviews_per_second(name, threads)
        for threads in thread_counts(options.threads)
        for name in contenders
    }
    latencies(contenders, texts[0])  # the first review of a process includes lazy loading
    rounds = interleave(turns, options.rounds, seconds=60, choose=fastest_keys)
    best = {key.contender: key for key in fastest_keys(rounds[0])}
    torch.set_num_threads(options.threads)
    singles = [latencies(contenders, text) for text in texts[: options.singles]]
    lines: list[tuple[str, ...]] = []
    for name in contenders:
        middle, slow = np.percentile([1e3 * single[name] for single in singles], [50, 99])
        lines.append(
            (
                run.model_config.name,
                name,
                str(best[name].threads),
                f"{median(rounds, best[name]):,.0f}",
                f"{median_ratio(rounds, best[name], best[IN_ORDER]):.1f}x",
                f"{middle:.1f} ms",
                f"{slow:.1f} ms",
            )
        )
    return lines


def predict_in_order(
    run: LoadedModel, rows: Iterable[Record | BadRow], batch_size: int
) -> Iterator[np.ndarray]:
    """Yield the probabilities of each row, in batches of successive rows."""
    while batch := list(itertools.islice(rows, batch_size)):
        texts = [row.text for row in batch if isinstance(row, Record)]
        yield from run.probabilities([run.text_encoder.encode(text) for text in texts])


def latencies(contenders: dict[str, LoadedModel], text: str) -> dict[str, float]:
    """Return the seconds from one text to its probabilities, by contender."""
    seconds = {}
    for name, run in contenders.items():
        started = time.perf_counter()
        classify(run, [run.text_encoder.encode(text)], batch_size=1)
        seconds[name] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    main()
