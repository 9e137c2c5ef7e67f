"""Measure leaks over many runs or many epochs: `python benchmarks/soak.py`.

train.py trains 200 short runs in one process, a sweep over seeds with W&B offline. After each run a
Hydra callback records the footprint of the process: anonymous memory (not backed by a file, so the
system cannot reclaim it), resident memory, open files, threads and child processes. With `--epochs`
it trains one run on IMDB, whose footprint is read from outside when an epoch's checkpoint is
written. A leak shows as a slope: the median of the slopes between any two jobs (Theil and Sen),
after the first jobs, in which caches fill.

Arguments after `--` are options of train.py and replace the default ones.
"""

import argparse
import contextlib
import csv
import ctypes
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

PROJECT = Path(__file__).resolve().parents[1]
RUN_OPTIONS = (
    *("experiment=smoke", "logger=wandb", "logger.mode=offline", "trainer=cpu"),
    *("data.num_train=100", "data.num_test=40", "trainer.enable_progress_bar=false"),
)
EPOCH_OPTIONS = (
    *("data=imdb", "model=gru", "model.embedding_dim=32", "model.hidden_size=32", "logger=csv"),
    *("data.max_length=100", "trainer=cpu", "trainer.enable_progress_bar=false"),
)
WARM_UP = 0.1  # share of the jobs or epochs in which caches fill
ROWS = 10  # of the table
MIB = 2**20
COLUMNS = ("number", "anonymous", "resident", "files", "threads", "children")
HEADER = ("", "anonymous, MiB", "resident, MiB", "open files", "threads", "child processes")


class RecordFootprint(Callback):
    """Hydra callback that appends a row to the CSV `path` after each job."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._jobs = 0
        with self._path.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        """Append the footprint of this process, without memory that is free but not returned."""
        self._jobs += 1
        gc.collect()
        if sys.platform == "linux":
            with contextlib.suppress(AttributeError):  # glibc alone has it
                ctypes.CDLL(None).malloc_trim(0)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"number": self._jobs} | footprint())


def footprint(pid: int | None = None) -> dict[str, int]:
    """Return the bytes and counts of a process, by default this one (Linux)."""
    proc = Path("/proc") / str(pid or os.getpid())
    lines = (proc / "smaps_rollup").read_text().splitlines()[1:]
    bytes_of = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    children = [(task / "children").read_text().split() for task in (proc / "task").iterdir()]
    return {
        "anonymous": bytes_of["Anonymous"],
        "resident": bytes_of["Rss"],
        "files": len(list((proc / "fd").iterdir())),
        "threads": len(children),
        "children": sum(len(pids) for pids in children),
    }


def main() -> None:
    """Run the sweep or the run, print table and slopes, and write them to --markdown and --csv."""
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        if options.epochs is None:
            rows = many_runs(Path(scratch), options.jobs, options.arguments or RUN_OPTIONS)
        else:
            rows = many_epochs(Path(scratch), options.epochs, options.arguments or EPOCH_OPTIONS)
    from benchmarks.machine import describe_machine
    from benchmarks.tables import markdown_table, report

    every = max(1, len(rows) // ROWS)
    shown = [rows[0], *rows[every - 1 :: every]]
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    kind, filled = "run" if options.epochs is None else "epoch", max(1, int(WARM_UP * len(rows)))
    slopes = "; ".join(format_slopes(rows[filled - 1 :]))
    paragraphs = [
        f"{len(rows)} {kind}s in one process. {describe_machine(threads)}",
        markdown_table((kind, *HEADER[1:]), [table_row(row) for row in shown]),
        f"Slopes per {kind} from {kind} {filled} on: {slopes}.",
    ]
    report(paragraphs, options.markdown)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


def many_runs(folder: Path, jobs: int, arguments: Sequence[str]) -> list[dict[str, int]]:
    """Train `jobs` runs in one process in `folder`; return its footprint after each."""
    path = folder / "footprints.csv"
    done = subprocess.run(
        [
            *(sys.executable, str(PROJECT / "train.py"), "-m", *arguments),
            *(f"seed=range(1,{jobs + 1})", "hydra.sweep.dir=sweep"),
            *recording_options(path),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    with path.open(newline="") as file:
        rows = [{name: int(value) for name, value in row.items()} for row in csv.DictReader(file)]
    finished = len(list((folder / "sweep").glob("*/result.json")))
    if not len(rows) == finished == jobs:
        raise SystemExit(f"{jobs} jobs requested, {len(rows)} recorded, {finished} finished")
    return rows


def many_epochs(folder: Path, epochs: int, arguments: Sequence[str]) -> list[dict[str, int]]:
    """Train a run of `epochs` in `folder`; return its footprint at each epoch's checkpoint."""
    last = folder / "run" / "checkpoints" / "last.ckpt"
    command = [sys.executable, str(PROJECT / "train.py"), *arguments]
    options = [f"trainer.max_epochs={epochs}", "trainer.checkpoint_every_n_minutes=null"]
    rows: list[dict[str, int]] = []
    written = None
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [*command, *options, "hydra.run.dir=run"],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            time.sleep(0.02)
            now = last.stat().st_ino if last.exists() else None
            if now != written and len(rows) < epochs:
                rows.append({"number": len(rows) + 1} | footprint(process.pid))
                written = now
        if process.returncode or len(rows) != epochs:
            output.seek(0)
            raise SystemExit(f"{len(rows)} epochs seen of {epochs}\n{output.read()}")
    return rows


def recording_options(path: Path) -> list[str]:
    """Return the options of train.py that make Hydra call RecordFootprint."""
    callback = "+hydra.callbacks.footprint"
    return [f"{callback}._target_=benchmarks.soak.RecordFootprint", f"{callback}.path={path}"]


def slope(rows: Sequence[dict[str, int]], name: str) -> float:
    """Return the median slope of `name` between any two rows."""
    return statistics.median(
        (late[name] - early[name]) / (late["number"] - early["number"])
        for early, late in combinations(rows, 2)
    )


def format_slopes(rows: Sequence[dict[str, int]]) -> list[str]:
    """Return the slopes as text."""
    memory = [f"{slope(rows, n) / 1024:+.2f} KiB {n}" for n in ("anonymous", "resident")]
    counts = [f"{slope(rows, n):+.3f} {n}" for n in ("files", "threads", "children")]
    return [*memory, *counts]


def table_row(row: dict[str, int]) -> list[str]:
    """Return a row below HEADER."""
    return [
        f"{row[n] / MIB:.1f}" if n in ("anonymous", "resident") else str(row[n]) for n in COLUMNS
    ]


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--epochs", type=int, help="one run of that many epochs instead of jobs")
    parser.add_argument("--scratch", type=Path, help="folder for the runs")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    parser.add_argument("--csv", type=Path, help="write one row per job to this file too")
    parser.add_argument("arguments", nargs="*", help="options of train.py, after --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
