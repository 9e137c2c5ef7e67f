"""Compare training speed with peers: `python benchmarks/throughput.py`.

For each model and size, all contenders, in one and in both directions, train in turn on the same
batches, round after round. In the first round each runs with one thread and with all; after that,
with the number that was faster. A number is the median over rounds, a ratio the median of the
ratios within rounds. The report says how busy other processes kept the machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from benchmarks.clock import interleave
from benchmarks.contenders import (
    COMPILED,
    KERAS,
    PACKED,
    PRODUCT,
    PRODUCT_BF16,
    Contender,
    KerasProcesses,
    compiled_contender,
    plain_model,
    thread_counts,
    torch_contenders,
)
from benchmarks.load import LoadMeter
from benchmarks.machine import describe_machine, has_fast_bf16, prepare_process, product_rate
from benchmarks.picture import draw_throughput
from benchmarks.plain_process import PlainProcess
from benchmarks.reviews import BATCH_SIZE, MAX_LENGTH, Sample, load_sample
from benchmarks.tables import markdown_table, report
from benchmarks.training_speed import (
    HEADER,
    TARGET_HEADER,
    Key,
    Rounds,
    fastest_keys,
    result_rows,
    table_rows,
    target_rows,
)
from rnn_lab.io.atomic import write_json

NOTES = """\
{reviews} reviews of {corpus} in {batches} batches of {batch_size}, cut to {max_length} tokens, \
{tokens:.0f} tokens per review. All torch contenders but "random batches" have the same bucketed \
batches and optimizer: packed, unpacked and ours differ in the recurrent layer, and in the \
embedding, which ours updates lazily, as train.py does. "torch, packed" runs in a process with \
torch's default settings, all others with those of train.py. "random batches" are the same \
reviews shuffled. Unpacked and random batches read the padding as text and give wrong final \
states: they are measured for their speed. Keras masks the \
padding, on our batches and on batches padded to {max_length}.

Each contender trains with the number of threads that was faster for it in the first round: the \
columns "with 1 thread" and "with all" ({threads}) are that round, "reviews/s" is the median of \
all rounds with the chosen number.

FLOPs are those of the recurrent layer on real tokens: forward 2 * gates * hidden * \
(input + hidden) per token and direction, backward twice that. Their share is relative to the \
rate of a 2048 x 2048 matrix product with {threads} threads in the same round (bfloat16 for \
bfloat16, else float32)."""
# Prints the versions of Keras and of its back ends that an interpreter has.
VERSIONS = """\
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in ("keras", "tensorflow-cpu", "tensorflow", "jax"):
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))"""


def main() -> None:
    """Measure, print the tables, and write the files that were asked for."""
    options = parse()
    if not options.draw_only:
        measure_all(options)
    if options.picture:
        draw_throughput(json.loads(options.results.read_text()), options.picture)


def measure_all(options: argparse.Namespace) -> None:
    """Measure, print the report, and write it to --markdown and --results."""
    prepare_process(options.threads)
    load = LoadMeter(0.1 if options.quick else 3.0)
    started = time.perf_counter()
    data, sample = load_sample(options.cache_dir, options.batches)
    about = {
        "machine": describe_machine(options.threads, options.versions),
        "corpus": "IMDB" if data.corpus.name == "imdb" else "the synthetic demo corpus",
    }
    groups: list[Rounds] = []
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        plain = PlainProcess()
        threads = thread_counts(options.threads)
        keras = [
            KerasProcesses(backend, threads, Path(folder), options.keras_python)
            for backend in options.backends
        ]
        for process in keras:
            process.share(sample)
        for size in options.sizes:
            for model in options.models:
                seconds = time.perf_counter() - started
                print(f"{seconds:4.0f} s  {model} {size}/{size}", file=sys.stderr)
                groups.append(measure(model, size, sample, options, plain, keras, skipped))
                if options.results:  # of an interrupted benchmark, what was measured
                    rows = {"rows": list(result_rows(groups))}
                    write_json(options.results, about | {"load": load.so_far()} | rows)
        plain.close()
        for process in keras:
            process.close()
    about["load"] = load.finish()
    for name in KERAS.keys() - set(options.backends):
        skipped[KERAS[name]] = "not installed, or --no-keras"
    paragraphs = [
        about["machine"],
        about["load"],
        *(f"Left out: {name} ({why})." for name, why in sorted(skipped.items())),
        NOTES.format(
            corpus=about["corpus"],
            reviews=sample.reviews,
            batches=len(sample.bucketed),
            batch_size=BATCH_SIZE,
            max_length=MAX_LENGTH,
            tokens=sample.tokens / sample.reviews,
            threads=options.threads,
        ),
        markdown_table(HEADER, table_rows(groups)),
        markdown_table(TARGET_HEADER, target_rows(groups)),
        f"Measured in {time.perf_counter() - started:,.0f} seconds.",
    ]
    report(paragraphs, options.markdown)
    if options.results:
        write_json(options.results, about | {"rows": list(result_rows(groups))})


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    models = ["lstm", "gru", "rnn"]
    parser.add_argument("--models", nargs="+", default=models, choices=models)
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256], metavar="SIZE")
    parser.add_argument(
        "--directions", nargs="+", type=int, default=[1, 2], choices=[1, 2], metavar="N"
    )
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="the most that anyone may use"
    )
    parser.add_argument("--batches", type=int, default=8, help="that represent the epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="of a turn, at least one pass")
    parser.add_argument(
        "--keras",
        action=argparse.BooleanOptionalAction,
        help="include Keras (requirements-benchmark.txt); default: if it is installed",
    )
    parser.add_argument(
        "--keras-python",
        default=sys.executable,
        metavar="PYTHON",
        help="the interpreter that has Keras, if it is in another environment",
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="include torch.compile, which needs a C++ compiler",
    )
    parser.add_argument("--quick", action="store_true", help="one short batch, as a check")
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables to FILE too"
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="write the measurements to FILE, as JSON"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw --results as a picture, FILE.png"
    )
    parser.add_argument(
        "--draw-only", action="store_true", help="measure nothing; draw existing --results"
    )
    options = parser.parse_args()
    if options.threads < 1:
        parser.error("--threads: must be at least 1")
    if options.picture and not options.results:
        parser.error("--picture: needs --results FILE, which it draws")
    if options.draw_only and not (options.picture and options.results.is_file()):
        parser.error("--draw-only: needs --picture FILE and the file of --results")
    find_keras(options, parser)
    if options.quick:
        options.batches, options.rounds, options.seconds = 1, 1, 0.0
    return options


def find_keras(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Set `options.versions` and `options.backends`, which are empty without Keras."""
    options.versions, options.backends = {}, []
    if options.keras is False or options.draw_only:
        return
    try:
        command = [options.keras_python, "-c", VERSIONS]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        options.versions = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError) as error:
        parser.error(f"--keras-python={options.keras_python}: {error}")
    installed = {name.partition("-")[0] for name in options.versions}
    if "keras" in installed:
        options.backends = [name for name in KERAS if name in installed]
    if options.keras and not options.backends:
        parser.error("--keras: not installed; pip install -r requirements-benchmark.txt")


def measure(
    model: str,
    size: int,
    sample: Sample,
    options: argparse.Namespace,
    plain: PlainProcess,
    keras: list[KerasProcesses],
    skipped: dict[str, str],
) -> Rounds:
    """Measure all contenders of one model and size in turn.

    A contender that cannot be built is added to `skipped`, with the reason in one line.
    """
    bf16, threads = has_fast_bf16(), thread_counts(options.threads)
    contenders: dict[tuple[str, int], Contender] = {}
    for process in keras:
        process.clear()
    for directions in options.directions:
        config = plain_model(model, size, bidirectional=directions == 2)
        named = torch_contenders(config, sample, threads, bf16=bf16)
        named[PACKED] = plain.packed(config, sample, threads)
        if directions == 1 and options.compile and COMPILED not in skipped:
            try:
                named[COMPILED] = compiled_contender(config, sample.bucketed, threads)
            except Exception as error:  # torch raises what its compiler does
                lines = str(error).strip().splitlines() or [type(error).__name__]
                skipped[COMPILED] = lines[0]
        for process in keras:
            named |= process.contenders(config, sample)
        contenders |= {(name, directions): contender for name, contender in named.items()}

    def reviews_per_second(turn: Callable[[float], float], seconds: float) -> float:
        return sample.reviews / turn(seconds)

    turns: dict[Key, Callable[[float], float]] = {
        Key(PRODUCT): lambda seconds: product_rate(torch.float32, seconds)
    }
    if bf16:
        turns[Key(PRODUCT_BF16)] = lambda seconds: product_rate(torch.bfloat16, seconds)
    for (name, directions), contender in contenders.items():
        for count, turn in contender.turns.items():
            turns[Key(name, directions, count)] = partial(reviews_per_second, turn)
    return Rounds(
        model=model,
        size=size,
        tokens_per_review=sample.tokens / sample.reviews,
        padding={key: contender.padding for key, contender in contenders.items()},
        rounds=interleave(turns, options.rounds, options.seconds, choose=fastest_keys),
    )


if __name__ == "__main__":
    main()
