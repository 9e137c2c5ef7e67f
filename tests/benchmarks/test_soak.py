"""Many runs in one process leak no memory, files or threads."""

import mmap
import sys
from pathlib import Path
from statistics import median

import pytest

from benchmarks.soak import COLUMNS, RUN_OPTIONS, footprint, many_runs, slope


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_dozen_runs_leak_no_file_thread_or_memory(tmp_path: Path) -> None:
    # In float32: oneDNN caches compiled bfloat16 products by shape, up to a bound.
    small = ("data.num_train=40", "data.num_test=20", "trainer.precision=32-true")
    # A run that compiles the steps, which later processes load: a compiler's memory is no leak.
    for name in ("first", "runs"):
        (tmp_path / name).mkdir()
    many_runs(tmp_path / "first", 1, (*RUN_OPTIONS, *small))
    rows = many_runs(tmp_path / "runs", 12, (*RUN_OPTIONS, *small))
    assert [row["number"] for row in rows] == list(range(1, 13))
    settled = rows[3:]  # the first ones import and fill caches
    for name in ("files", "threads", "children"):
        assert len({row[name] for row in settled}) == 1, [row[name] for row in rows]
    memory = [row["anonymous"] for row in settled]
    assert slope(settled, "anonymous") < 2**18, memory  # bytes a run
    # In no single run: the kernel gives memory in huge pages, and takes it back when it likes.
    assert median(memory[-4:]) - median(memory[:4]) < 2**21, memory


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_footprint_counts_memory_and_files(tmp_path: Path) -> None:
    before = footprint()
    own = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with (tmp_path / "file").open("w"), mmap.mmap(-1, 2**24, flags=own) as held:
        held.write(b"x" * len(held))
        after = footprint()
    assert after["anonymous"] - before["anonymous"] >= 2**24
    assert after["files"] == before["files"] + 1
    assert set(before) == set(COLUMNS) - {"number"}


def test_the_slope_is_per_job_and_robust_to_one_outlier() -> None:
    rows = [{"number": number, "files": 5 + 2 * number} for number in range(1, 20, 2)]
    rows[4]["files"] = 1000
    assert slope(rows, "files") == 2
