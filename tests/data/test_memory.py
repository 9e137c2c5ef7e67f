"""The memory for preparing texts does not grow with their number."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from rnn_lab.data.cache import build_once
from rnn_lab.data.storage import MemmapTexts, TextWriter
from tests.cli.runner import PROJECT

# Prepare that many texts of 500 characters, and print the peak memory of the process [MB].
# On one core, so that the number of chunks in progress does not depend on the number of texts.
PREPARE = """
import csv, os, random, sys
from pathlib import Path

from rnn_lab.data.config import FilesConfig
from rnn_lab.data.encode import encode_corpus, fit_vocabulary
from rnn_lab.data.sources.registry import load_corpus
from rnn_lab.data.splits import split_validation
from rnn_lab.process import peak_memory_bytes

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

config = FilesConfig(train_path=str(path), cache_dir=str(folder / "cache"), on_bad_lines="skip")
corpus = load_corpus(config)
train_rows, _ = split_validation(corpus, config)
vocabulary = fit_vocabulary(corpus, train_rows, config)
encoded = encode_corpus(corpus, vocabulary, folder / "cache")
assert sum(map(len, encoded.values())) == number

print(peak_memory_bytes() / 1e6)
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


def test_four_times_the_texts_need_no_more_memory(tmp_path: Path) -> None:
    few, many = (peak_of_preparing(tmp_path / str(n), n) for n in (7_500, 30_000))
    assert many - few < 8, "the additional texts have 11 MB"


def test_writing_texts_keeps_none_in_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with TextWriter(tmp_path, "names") as names:
            for i in range(50_000):
                names.append(f"reviews.csv:{i}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000, "8 bytes of each are 400,000"
    stored = MemmapTexts.open(tmp_path, "names")
    assert list(stored) == [f"reviews.csv:{i}" for i in range(50_000)]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and glibc")
def test_memory_freed_by_preparing_is_returned_to_the_system(tmp_path: Path) -> None:
    last = []

    def build(folder: Path) -> None:
        (folder / "file").write_text("whole")
        pieces = [bytes(4_000) for _ in range(25_000)]  # 100 MB
        last.append(pieces[-1])  # the C library itself returns only what follows it in memory

    before = anonymous_megabytes()
    build_once(tmp_path / "built", build)
    assert anonymous_megabytes() - before < 30
    assert last


def anonymous_megabytes() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1e3
