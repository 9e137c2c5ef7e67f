"""Measure memory and cost per review as the data grows: `python benchmarks/scaling.py`.

1, 4 and 16 copies of the training reviews are written to a file each, and train.py, in a process of
its own, trains with the default options on each for the same number of steps: first with an empty
cache, which prepares the reviews, then with the prepared reviews. Peak memory is the largest
resident size of the process. Its anonymous part, sampled every 10 ms on Linux, excludes the pages
of mapped files, which the system reclaims when memory is short. Numbers are medians over rounds.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.machine import describe_machine
from benchmarks.reviews import load_reviews
from benchmarks.tables import markdown_table, report
from rnn_lab.data.corpus import Corpus

PROJECT = Path(__file__).resolve().parents[1]
TEST_REVIEWS = 1_000
LARGEST_MEMORY = 1.5  # GiB
WIDEST_SPREAD = 0.1  # of the cost per review
GIB = 2**30
HEADER = (
    *("copies", "reviews", "prepare, per review", "train, per review"),
    *("peak memory, first run", "anonymous", "peak memory, second run", "anonymous"),
)


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    corpus = load_reviews(options.cache_dir).corpus
    runs: dict[int, list[dict[str, float]]] = {copies: [] for copies in options.copies}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        write_texts(folder / "test.jsonl", corpus, "test", TEST_REVIEWS)
        for copies in options.copies:
            train = folder / f"train{copies}.jsonl"
            reviews = write_texts(train, corpus, "train", options.reviews, copies)
        for number in range(options.rounds):
            for copies in options.copies:
                print(f"round {number}: {copies} copies", file=sys.stderr)
                runs[copies].append(measure(folder, copies, copies * reviews, number, options))
    medians = {copies: median_of_rounds(runs[copies]) for copies in runs}
    paragraphs = [
        describe_machine(options.threads) + f"; reviews: {corpus.name}",
        f"Default options of train.py, {options.steps} steps of training.",
        markdown_table(HEADER, [table_row(c, reviews, medians[c]) for c in medians]),
        check_targets(list(medians.values())),
    ]
    report(paragraphs, options.markdown)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--copies", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--reviews", type=int, help="to copy, fewer than all of training")
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-dir", type=Path, default=Path("data/cache"))
    parser.add_argument("--scratch", type=Path, help="folder for some GiB of temporary files")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    parser.add_argument("overrides", nargs="*", help="options of train.py, such as model=lstm")
    return parser.parse_args()


def write_texts(path: Path, corpus: Corpus, name: str, most: int | None, copies: int = 1) -> int:
    """Write copies of the reviews of a split, or of `most` of them; return the number of one."""
    split = corpus.splits[name]
    rows: Sequence[int] = range(len(split))
    if most is not None and most < len(split):
        rows = random.Random(0).sample(rows, most)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(copies):
            for row in rows:
                label = corpus.class_names[split.labels[row]]
                file.write(json.dumps({"text": split.texts[row], "label": label}) + "\n")
    return len(rows)


def measure(
    folder: Path, copies: int, reviews: int, number: int, options: argparse.Namespace
) -> dict[str, float]:
    """Train twice, the first time with an empty cache."""
    work = folder / f"round{number}_copies{copies}"
    work.mkdir()
    first, second = (train(folder, work, copies, turn, options) for turn in ("first", "second"))
    shutil.rmtree(work)
    return {
        "prepare": (first["wall_seconds"] - second["wall_seconds"]) / reviews,
        "train": 1 / second["train_examples_per_s"],
        "first memory": first["peak_memory_bytes"],
        "first anonymous": first["peak_anonymous_bytes"],
        "second memory": second["peak_memory_bytes"],
        "second anonymous": second["peak_anonymous_bytes"],
    }


def train(
    folder: Path, work: Path, copies: int, name: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Return the `timing` of one run of train.py, its wall time and its peak anonymous memory."""
    command: Sequence[str] = [
        *(sys.executable, str(PROJECT / "train.py"), "data=files", "logger=none", "trainer=cpu"),
        *(f"data.train_path={folder}/train{copies}.jsonl", f"data.test_path={folder}/test.jsonl"),
        *(f"data.cache_dir={work}/cache", f"hydra.run.dir={work}/{name}"),
        *(
            "trainer.max_epochs=1",
            "trainer.limit_val_batches=10",
            "trainer.enable_progress_bar=false",
        ),
        *(f"trainer.limit_train_batches={options.steps}", *options.overrides),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    anonymous = 0
    while process.poll() is None:
        anonymous = max(anonymous, anonymous_bytes(process.pid))
        time.sleep(0.01)
    wall_seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    timing: dict[str, Any] = json.loads((work / name / "result.json").read_text())["timing"]
    return timing | {"wall_seconds": wall_seconds, "peak_anonymous_bytes": anonymous}


def anonymous_bytes(process: int) -> int:
    """Return the anonymous resident memory of a process in bytes; 0 if it is unknown."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return 1024 * int(sizes[0]) if sizes else 0  # a process that has just ended has no such line


def median_of_rounds(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each measurement."""
    return {name: statistics.median(row[name] for row in rounds) for name in rounds[0]}


def table_row(copies: int, reviews: int, medians: dict[str, float]) -> tuple[str, ...]:
    """Return a row below HEADER."""
    return (
        str(copies),
        f"{copies * reviews:,}",
        f"{1e6 * medians['prepare']:.0f} µs",
        f"{1e6 * medians['train']:.0f} µs",
        *(
            f"{medians[f'{turn} {part}'] / GIB:.2f} GiB"
            for turn in ("first", "second")
            for part in ("memory", "anonymous")
        ),
    )


def check_targets(runs: list[dict[str, float]]) -> str:
    """Return whether the targets are met: peak memory of the first size, flat cost and memory."""
    memory = max(runs[0]["first memory"], runs[0]["second memory"]) / GIB
    met = "met" if memory < LARGEST_MEMORY else "NOT met"
    lines = [f"- peak memory under {LARGEST_MEMORY} GiB: {memory:.2f} GiB, {met}"]
    names = {
        "train": "training cost per review",
        "prepare": "preparation cost per review",
        "first memory": "memory of a run that prepares",
        "first anonymous": "its anonymous part",
        "second memory": "memory of a run with prepared reviews",
        "second anonymous": "its anonymous part",
    }
    for name, what in names.items():
        if not runs[0][name]:  # anonymous memory is known on Linux only
            continue
        growth = max(run[name] for run in runs) / runs[0][name] - 1
        met = "met" if growth <= WIDEST_SPREAD else "NOT met"
        lines.append(f"- {what} flat within {WIDEST_SPREAD:.0%}: grows by {growth:.0%}, {met}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
