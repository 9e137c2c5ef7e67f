"""A disk that is full, read-only, denied or gone: one line, and the run resumes."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.forked import run_warm_command

# Two epochs, with a last.ckpt every five steps. The cache is elsewhere.
SMALL = (
    *("experiment=smoke", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2"),
    *("data.num_train=200", "trainer.gradient_flow=epoch", "trainer.checkpoint_every_n_steps=5"),
    "trainer.enable_progress_bar=false",
)


def starve(cwd: Path, *runs: list, **plan: Any) -> list[dict]:
    """Carry out a plan of tests/training/starving.py and return what it prints."""
    plan |= {"arguments": SMALL, "runs": runs}
    done = run_warm_command("tests/training/starving.py", str(cwd), json.dumps(plan), cwd=cwd)
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


def namespace() -> list[str] | None:
    """Return the name spaces in which this user may mount disks, if any."""
    for flag, names in (("-m", ["mount"]), ("-Urm", ["user", "mount"])):
        mount = ("mount", "-t", "tmpfs", "-o", "size=4k", "none", "/mnt")
        if subprocess.run(["unshare", flag, *mount], capture_output=True).returncode == 0:
            return names
    return None


@pytest.mark.slow
def test_full_disk_ends_a_run_in_one_line_and_it_resumes_bit_by_bit(tmp_path):
    """A disk of each size is full at another moment: config, log, csv, checkpoints, plots."""
    names = namespace()
    if names is None:  # then the size of each file is limited
        sizes = (2_000, 30_000, 90_000)
        found = starve(tmp_path, *(["with_files_of_at_most", size] for size in sizes))
        reason = "File too large; the system limits"
    else:
        read_only, *found = starve(
            tmp_path,
            *(["on_a_read_only_disk"], ["on_a_disk_of", 20], ["on_a_disk_of", 200]),
            plotted_runs=[["on_a_disk_of", 360]],
            namespace=names,
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
