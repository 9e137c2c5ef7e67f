"""A disk that is full, read-only, denied or gone: one line, and the run resumes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT, command_environment

# Two epochs, with a last.ckpt every five steps. The cache is elsewhere.
SMALL = (
    *("experiment=smoke", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2"),
    *("data.num_train=200", "trainer.gradient_flow=epoch", "trainer.checkpoint_every_n_steps=5"),
    "trainer.enable_progress_bar=false",
)


def starve(cwd: Path, *runs: list, inside: tuple[str, ...] = ()) -> list[dict]:
    given = (str(cwd), json.dumps({"arguments": SMALL, "runs": runs}))
    if inside:
        done = subprocess.run(
            [*inside, sys.executable, "-m", "tests.training.starving", *given],
            cwd=PROJECT,
            env=command_environment(cwd),
            capture_output=True,
            text=True,
        )
    else:
        done = run_warm_command("tests/training/starving.py", *given, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(found: dict, *reasons: str) -> None:
    """One line names a file and the reason; the same command then ends bit by bit."""
    status, output = found["first"]
    errors = [line for line in output if line.startswith("error: ")]
    others = [line for line in output if "this log cannot be written" not in line]
    assert status == 1, output
    assert others == errors and len(errors) == 1, output
    assert len(output) <= 2, output
    assert any(reason in errors[0] for reason in reasons), errors
    assert "error: /" in errors[0]
    assert found["differences"] == [], (errors, found["differences"])


def can_mount() -> tuple[str, ...] | None:
    """Return the command that opens a mount namespace, if one is allowed."""
    for way in (("unshare", "-m"), ("unshare", "-Urm")):
        tried = subprocess.run(
            [*way, "mount", "-t", "tmpfs", "-o", "size=4k", "none", "/mnt"], capture_output=True
        )
        if tried.returncode == 0:
            return way
    return None


@pytest.mark.slow
def test_full_disk_ends_a_run_in_one_line_and_it_resumes_bit_by_bit(tmp_path):
    """A disk of each size is full at another moment: config, log, csv, checkpoints, plots."""
    way = can_mount()
    if way is None:  # then the size of each file is limited
        sizes = (2_000, 30_000, 90_000)
        found = starve(tmp_path, *(["with_files_of_at_most", size] for size in sizes))
        reason = "File too large; the system limits"
    else:
        sizes = (20, 200, 360)
        *found, read_only = starve(
            tmp_path,
            *(["on_a_disk_of", size] for size in sizes),
            ["on_a_read_only_disk"],
            inside=way,
        )
        check(read_only, "Read-only file system; choose a folder that is not read-only")
        reason = "No space left on device; free some space there"
    for one in found:
        check(one, reason)
    assert found[0]["left"] == [] and found[-1]["left"] == ["best.ckpt", "last.ckpt"]
    assert re.search(r"resume with: \S+ \S*train\.py ", found[-1]["first"][1][-1])


@pytest.mark.slow
def test_denied_folder_deleted_folder_and_limited_files(tmp_path):
    denied, gone, limited = starve(
        tmp_path,
        ["without_the_right"],
        ["in_a_folder_that_goes", 3],
        ["with_files_of_at_most", 60_000],
    )
    check(denied, "Permission denied; choose another folder")
    check(gone, "its folder was deleted", "was deleted or moved while the run trained")
    check(limited, "File too large; the system limits")
