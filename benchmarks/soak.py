"""What many runs, or many epochs, hold on to: `python benchmarks/soak.py`.

train.py trains 200 short runs one after the other in one process, a sweep over seeds with W&B
offline, and a Hydra callback writes down after each what the process holds: anonymous memory (what
no file backs and the system cannot take back), resident memory, open files, threads, and the
processes it has started. With `--epochs` it trains one run on IMDB, looked at from outside when an
epoch's checkpoint is written. What holds on to something each time shows as a slope: the median of
the slopes between any two jobs (Theil and Sen), over those after the first ones, in which caches
fill.

What follows `--` are options of train.py, in place of the default ones.
"""

import argparse
import csv
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
FEW = (
    *("experiment=smoke", "logger=wandb", "logger.mode=offline", "trainer=cpu"),
    *("data.num_train=100", "data.num_test=40", "trainer.enable_progress_bar=false"),
)
LONG = (
    *("data=imdb", "model=gru", "model.embedding_dim=32", "model.hidden_size=32", "logger=csv"),
    *("data.max_length=100", "trainer=cpu", "trainer.enable_progress_bar=false"),
)
FILLS = 0.1  # share of the jobs or epochs in which caches fill
ROWS = 10  # of the table
MIB = 2**20
COLUMNS = ("number", "anonymous", "resident", "files", "threads", "children")
WORDS = ("", "anonymous, MiB", "resident, MiB", "open files", "threads", "processes started")


class NoteFootprint(Callback):
    """Hydra's callback that adds a line to the CSV `path` after each job."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._jobs = 0
        with self._path.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        """Write down what this process holds."""
        self._jobs += 1
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({"number": self._jobs} | footprint())


def footprint(pid: int | None = None) -> dict[str, int]:
    """What a process holds, this one where none is named: bytes and counts (Linux)."""
    place = Path("/proc") / str(pid or os.getpid())
    lines = (place / "smaps_rollup").read_text().splitlines()[1:]
    bytes_of = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    children = [(task / "children").read_text().split() for task in (place / "task").iterdir()]
    return {
        "anonymous": bytes_of["Anonymous"],
        "resident": bytes_of["Rss"],
        "files": len(list((place / "fd").iterdir())),
        "threads": len(children),
        "children": sum(len(pids) for pids in children),
    }


def main() -> None:
    """Run the sweep or the run, print the table and the slopes, and write them where asked."""
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        if options.epochs is None:
            rows = many_runs(Path(scratch), options.jobs, options.arguments or FEW)
        else:
            rows = many_epochs(Path(scratch), options.epochs, options.arguments or LONG)
    from benchmarks.machine import describe_machine
    from benchmarks.tables import markdown_table, report

    every = max(1, len(rows) // ROWS)
    shown = [rows[0], *rows[every - 1 :: every]]
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    kind, filled = "run" if options.epochs is None else "epoch", max(1, int(FILLS * len(rows)))
    paragraphs = [
        f"{len(rows)} {kind}s in one process. {describe_machine(threads)}",
        markdown_table((kind, *WORDS[1:]), [words(row) for row in shown]),
        f"Slopes from {kind} {filled} on, a {kind}: {'; '.join(said(rows[filled - 1 :]))}.",
    ]
    report(paragraphs, options.markdown)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


def many_runs(folder: Path, jobs: int, arguments: Sequence[str]) -> list[dict[str, int]]:
    """Train `jobs` runs in one process in `folder`; what it held after each."""
    notes = folder / "footprints.csv"
    done = subprocess.run(
        [
            *(sys.executable, str(PROJECT / "train.py"), "-m", *arguments),
            *(f"seed=range(1,{jobs + 1})", "hydra.sweep.dir=sweep"),
            *noting(notes),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    with notes.open(newline="") as file:
        rows = [{name: int(value) for name, value in row.items()} for row in csv.DictReader(file)]
    finished = len(list((folder / "sweep").glob("*/result.json")))
    if not len(rows) == finished == jobs:
        raise SystemExit(f"{jobs} jobs asked for, {len(rows)} noted, {finished} finished")
    return rows


def many_epochs(folder: Path, epochs: int, arguments: Sequence[str]) -> list[dict[str, int]]:
    """Train one run of `epochs` in `folder`; what it held when the checkpoint of each was there."""
    last = folder / "run" / "checkpoints" / "last.ckpt"
    command = [sys.executable, str(PROJECT / "train.py"), *arguments]
    options = [f"trainer.max_epochs={epochs}", "trainer.checkpoint_every_n_minutes=null"]
    rows: list[dict[str, int]] = []
    written = None
    with (folder / "said").open("w+") as said_there:
        process = subprocess.Popen(
            [*command, *options, "hydra.run.dir=run"],
            cwd=folder,
            stdout=said_there,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            time.sleep(0.02)
            now = last.stat().st_ino if last.exists() else None
            if now != written and len(rows) < epochs:
                rows.append({"number": len(rows) + 1} | footprint(process.pid))
                written = now
        if process.returncode or len(rows) != epochs:
            said_there.seek(0)
            raise SystemExit(f"{len(rows)} epochs seen of {epochs}\n{said_there.read()}")
    return rows


def noting(notes: Path) -> list[str]:
    """The options of train.py that have Hydra call NoteFootprint."""
    callback = "+hydra.callbacks.footprint"
    return [f"{callback}._target_=benchmarks.soak.NoteFootprint", f"{callback}.path={notes}"]


def slope(rows: Sequence[dict[str, int]], name: str) -> float:
    """The median of the slopes of `name` between any two rows."""
    return statistics.median(
        (late[name] - early[name]) / (late["number"] - early["number"])
        for early, late in combinations(rows, 2)
    )


def said(rows: Sequence[dict[str, int]]) -> list[str]:
    """The slopes in words."""
    memory = [f"{slope(rows, n) / 1024:+.2f} KiB {n}" for n in ("anonymous", "resident")]
    counts = [f"{slope(rows, n):+.3f} {n}" for n in ("files", "threads", "children")]
    return [*memory, *counts]


def words(row: dict[str, int]) -> list[str]:
    """A row of the table."""
    return [
        f"{row[n] / MIB:.1f}" if n in ("anonymous", "resident") else str(row[n]) for n in COLUMNS
    ]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--epochs", type=int, help="one run of so many epochs in place of jobs")
    parser.add_argument("--scratch", type=Path, help="where the runs' folders are made")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    parser.add_argument("--csv", type=Path, help="file for a row a job")
    parser.add_argument("arguments", nargs="*", help="options of train.py, after --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
