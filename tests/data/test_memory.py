"""Preparing reviews takes no more memory for many than for few."""

import os
import subprocess
import sys
from pathlib import Path

from tests.doors.runner import PROJECT

# Prepares so many reviews of 500 characters, and prints what the process held at most [MB].
# On one core, so that as many pieces are under way for few reviews as for many.
PREPARE = """
import csv, os, random, resource, sys
from pathlib import Path

from src.data.config import FilesConfig
from src.data.encoded import encode_corpus, fit_vocabulary
from src.data.sources import load_corpus
from src.data.split import cut_validation

folder, number = Path(sys.argv[1]), int(sys.argv[2])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
words, draw = [f"word{i}" for i in range(3_000)], random.Random(0)
texts = [" ".join(draw.choices(words, k=62)) for _ in range(100)]
rows = ((texts[i % 100], "good" if i % 2 else "bad") for i in range(number))
path = folder / "reviews.csv"
with path.open("w", newline="") as file:
    csv.writer(file).writerows([("text", "label"), *[("", "bad")] * 10])
    csv.writer(file).writerows(rows)

config = FilesConfig(train=str(path), cache_dir=str(folder / "cache"), on_bad_row="skip")
corpus = load_corpus(config)
train_rows, _ = cut_validation(corpus, config)
vocabulary = fit_vocabulary(corpus, train_rows, config)
encoded = encode_corpus(corpus, vocabulary, folder / "cache")
assert sum(map(len, encoded.values())) == number

status = Path("/proc/self/status")  # ru_maxrss also counts what the parent held before
if status.exists():
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) / 1e3)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def peak_of_preparing(folder: Path, number: int) -> float:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(folder), str(number)],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def test_four_times_the_reviews_take_no_more_memory(tmp_path: Path) -> None:
    few, many = (peak_of_preparing(tmp_path / str(n), n) for n in (10_000, 40_000))
    assert many - few < 8, "the texts that were added are 15 MB"
