import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rnn_lab.data.cache import build_once, stat_key
from rnn_lab.errors import DataError, UserError, WriteError
from tests.cli.runner import PROJECT

# Append a line to <folder>.log at each build, then write two files slowly.
BUILDER = """
import sys, time
from pathlib import Path
from rnn_lab.data.cache import build_once

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])

def build(partial):
    with open(f"{folder}.log", "a") as log:
        log.write("building\\n")
    (partial / "first").write_text("one")
    time.sleep(seconds)
    (partial / "second").write_text("two")

build_once(folder, build)
"""


def start_builder(folder: Path, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", BUILDER, str(folder), str(seconds)], cwd=PROJECT)


def builds(folder: Path) -> int:
    log = Path(f"{folder}.log")
    return log.read_text().count("building") if log.exists() else 0


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def build_two_files(partial: Path) -> None:
    (partial / "first").write_text("one")
    (partial / "deeper").mkdir()
    (partial / "deeper" / "second").write_text("two" * 10_000)


def test_builds_once(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert build_once(folder, build_two_files) == folder
    assert (folder / "first").read_text() == "one"

    def must_not_build(partial: Path) -> None:
        raise AssertionError

    build_once(folder, must_not_build)


def test_concurrent_processes_build_it_once(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    processes = [start_builder(folder, 0.3) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert builds(folder) == 1
    assert (folder / "second").read_text() == "two"


def test_a_killed_build_leaves_nothing_and_does_not_block_others(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    killed = start_builder(folder, 1_000)
    wait_for(lambda: builds(folder) == 1)
    waiting = start_builder(folder, 0)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert waiting.wait(timeout=60) == 0
    assert builds(folder) == 2
    assert (folder / "second").read_text() == "two"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"CACHEDIR.TAG", "cache", "cache.lock", "cache.log"}


@pytest.mark.parametrize("full_disk", [False, True])
def test_a_failed_build_leaves_nothing(tmp_path: Path, full_disk: bool) -> None:
    def fail(partial: Path) -> None:
        (partial / "first").write_text("one")
        if full_disk:
            raise OSError(errno.ENOSPC, "No space left on device")
        raise DataError("reviews.csv:3: no label")

    with pytest.raises(
        UserError, match=r"cannot be filled: No space left" if full_disk else "no label"
    ):
        build_once(tmp_path / "cache", fail)
    assert {path.name for path in tmp_path.iterdir()} == {"CACHEDIR.TAG", "cache.lock"}


@pytest.mark.parametrize("name", ["first", "deeper/second", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "deleted", "zeroed", "longer"])
def test_a_damaged_folder_is_rebuilt(tmp_path: Path, name: str, damage: str) -> None:
    folder = build_once(tmp_path / "cache", build_two_files)
    path = folder / name
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        changed = {
            "truncated": content[:-1],
            "emptied": b"",
            "zeroed": content[:-2] + b"\0\0",
            "longer": content + b" \0",
        }
        path.write_bytes(changed[damage])
    build_once(folder, build_two_files)
    assert (folder / "first").read_text() == "one"
    assert (folder / "deeper" / "second").read_text() == "two" * 10_000
    assert set(json.loads((folder / "manifest.json").read_text())) == {"first", "deeper/second"}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        WriteError, match=r"file/cache: the cache \(cache_dir\) cannot be filled"
    ) as error:
        build_once(tmp_path / "file" / "cache", build_two_files)
    assert "\n" not in str(error.value)


def test_the_key_follows_the_files_and_the_options(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("one")
    key = stat_key([path])
    assert stat_key([path]) == key
    assert stat_key([path], "options") != key
    path.write_text("other")
    assert stat_key([path]) != key
    path.write_text("two")  # of the old size
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert stat_key([path]) != key
