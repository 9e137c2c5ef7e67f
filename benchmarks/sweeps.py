"""Measure jobs an hour of a sweep on this machine: `python benchmarks/sweeps.py`.

A sweep of four short runs of train.py on IMDB's reviews: one job at a time with all threads, which
is Hydra's own launcher; as many jobs as cores with a thread each; and hydra/launcher=joblib with
its defaults. Time includes the start of every process.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from anywhere
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.machine import describe_machine
from benchmarks.tables import markdown_table, report

PROJECT = Path(__file__).resolve().parents[1]
JOBS = 4
HEADER = ("launcher", "jobs at a time", "threads of each", "seconds", "jobs an hour")


def main() -> None:
    """Measure, print the table, and write it to --markdown."""
    options = parse()
    cores = os.cpu_count() or 1
    ways = {
        ("one job at a time", "1", str(cores)): ((), {}),
        ("joblib", str(cores), "1"): (
            ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={cores}"),
            {"OMP_NUM_THREADS": "1"},
        ),
        ("joblib, its defaults", "auto", "auto"): (("hydra/launcher=joblib",), {}),
    }
    lines = []
    for way, (arguments, environment) in ways.items():
        seconds = min(sweep(arguments, environment, options.train) for _ in range(options.rounds))
        lines.append((*way, f"{seconds:.0f}", f"{JOBS * 3600 / seconds:,.0f}"))
    notes = f"Options of each run: {' '.join(options.train)}. The best of {options.rounds} rounds."
    report([describe_machine(cores), notes, markdown_table(HEADER, lines)], options.markdown)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to FILE too")
    parser.add_argument(
        "train",
        nargs="*",
        default=["model=gru,lstm", "trainer.limit_train_batches=100", "trainer.max_epochs=1"],
        help="options of train.py",
    )
    return parser.parse_args()


def sweep(arguments: tuple[str, ...], environment: dict[str, str], train: list[str]) -> float:
    """Run a sweep in a new folder and return its seconds.

    Raises:
        subprocess.CalledProcessError: a job failed.
    """
    given = [*train, "seed=1,2", "logger=none", "plots=false", "trainer=cpu"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "-m", *given, *arguments]
        command.append(f"hydra.sweep.dir={folder}")
        variables = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | environment
        started = time.perf_counter()
        subprocess.run(command, cwd=PROJECT, env=variables, check=True, stdout=sys.stderr)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
