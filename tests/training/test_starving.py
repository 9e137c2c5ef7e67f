"""A disk that is full, read-only, somebody else's or gone: one line, and nothing is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.forked import open_warm
from tests.cli.runner import PROJECT, door_environment

# Two epochs, with a last.ckpt every five steps. The cache lies elsewhere.
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
            env=door_environment(cwd),
            capture_output=True,
            text=True,
        )
    else:
        done = open_warm("tests/training/starving.py", *given, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(found: dict, *reasons: str) -> None:
    """One line that names a file and a reason; the same line again ends with the same bits."""
    status, said = found["first"]
    errors = [line for line in said if line.startswith("error: ")]
    others = [line for line in said if "this log cannot be written" not in line]
    assert status == 1, said
    assert others == errors and len(errors) == 1, said
    assert len(said) <= 2, said
    assert any(reason in errors[0] for reason in reasons), errors
    assert "error: /" in errors[0]
    assert found["differences"] == [], (errors, found["differences"])


def can_mount() -> tuple[str, ...] | None:
    """How to come to a name space with disks of one's own."""
    for way in (("unshare", "-m"), ("unshare", "-Urm")):
        tried = subprocess.run(
            [*way, "mount", "-t", "tmpfs", "-o", "size=4k", "none", "/mnt"], capture_output=True
        )
        if tried.returncode == 0:
            return way
    return None


@pytest.mark.slow
def test_on_a_full_disk_a_run_ends_in_a_line_and_goes_on_to_the_same_bits(tmp_path):
    """A disk of each size is full at another moment: config, log, csv, checkpoints, pictures."""
    way = can_mount()
    if way is None:  # then each file by itself is the disk that is full
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
        check(read_only, "Read-only file system; choose a place that is not read-only")
        reason = "No space left on device; free some space there"
    for one in found:
        check(one, reason)
    assert found[0]["left"] == [] and found[-1]["left"] == ["best.ckpt", "last.ckpt"]
    assert "goes on with: python train.py" in found[-1]["first"][1][-1]


@pytest.mark.slow
def test_no_right_a_folder_that_is_gone_and_files_that_may_not_grow(tmp_path):
    denied, gone, limited = starve(
        tmp_path,
        ["without_the_right"],
        ["in_a_folder_that_goes", 3],
        ["with_files_of_at_most", 60_000],
    )
    check(denied, "Permission denied; choose another place")
    check(gone, "its folder was deleted", "is gone: it was deleted or moved")
    check(limited, "File too large; the system limits")
