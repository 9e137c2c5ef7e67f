"""Takes the disk from train.py, gives it back, and compares what it leaves with an undisturbed run.

Run as a program it prints what it found as JSON:

    python -m tests.training.starving <folder> <plan as JSON>

A plan is {"arguments": [...], "runs": [[method, argument, ...], ...]}. Those in "plotted_runs" draw
plots, the others have none. To mount disks it names a "namespace", ["mount"] or ["user", "mount"].
"""

import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.forked import import_all
from tests.training.killing import differences, end_of, leavings, start

NOBODY = 65534
CLONE = {"mount": 0x20000, "user": 0x10000000}  # flags of unshare(2)


class Starved:
    """A folder for runs, and the log of what they say."""

    def __init__(self, cwd: Path, arguments: list[str]) -> None:
        self.cwd = cwd
        self.arguments = arguments
        cwd.mkdir()

    def run(self, name: str, before: Callable[[], None] | None = None) -> tuple[int, list[str]]:
        """The exit status of a run in the folder `name`, and the lines that it printed."""
        log = self.cwd / "log"
        said = log.stat().st_size if log.exists() else 0
        status = end_of(start([*self.arguments, f"hydra.run.dir={name}"], self.cwd, before))
        return status, log.read_bytes()[said:].decode().splitlines()

    def repeat(self, name: str, first: tuple[int, list[str]]) -> dict[str, Any]:
        """The result of the run, and of the same command once there is space."""
        checkpoints = self.cwd / name / "checkpoints"
        left = [path.name for path in checkpoints.glob("*.ckpt")] if checkpoints.exists() else []
        status, said = self.run(name)
        differ = ["did not end", *said[-3:]]
        if status == 0:
            differ = list(differences(self.expected, leavings(self.cwd / name)))
        return {"first": first, "left": sorted(left), "differences": differ}

    def on_a_disk_of(self, kib: int) -> dict[str, Any]:
        """Run on a disk of that size, then on the same made larger."""
        disk = self.cwd / f"disk{kib}"
        disk.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={kib}k", "none", disk)
        try:
            first = self.run(f"{disk.name}/run")
            self._mount("-o", "remount,size=64m", disk)
            return self.repeat(f"{disk.name}/run", first)
        finally:
            subprocess.run(["umount", "-l", disk], check=True)

    def on_a_read_only_disk(self) -> dict[str, Any]:
        """Run on a disk that is read-only, then on the same made writable."""
        disk = self.cwd / "read_only"
        disk.mkdir()
        self._mount("-t", "tmpfs", "-o", "ro,size=64m", "none", disk)
        try:
            first = self.run("read_only/run")
            self._mount("-o", "remount,rw", disk)
            return self.repeat("read_only/run", first)
        finally:
            subprocess.run(["umount", "-l", disk], check=True)

    def with_files_of_at_most(self, size: int) -> dict[str, Any]:
        """Run where no file may grow larger than so many bytes, then without that limit."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        return self.repeat(f"limit{size}", self.run(f"limit{size}", limit))

    def without_the_right(self) -> dict[str, Any]:
        """Run in a folder that may not be written to, then in the same with the right to it."""
        folder = self.cwd / "denied"
        folder.mkdir(mode=0o555)
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        first = self.run("denied/run", obey_permissions)
        folder.chmod(0o755)
        return self.repeat("denied/run", first)

    def in_a_folder_that_goes(self, at_fsync: int) -> dict[str, Any]:
        """Run, and have its folder deleted when a checkpoint is written for so many times."""
        name = f"gone{at_fsync}"

        def arm() -> None:
            fsync, calls = os.fsync, iter(range(1, at_fsync + 1))

            def counted(file: int) -> None:
                fsync(file)
                if next(calls, 0) == at_fsync:
                    shutil.rmtree(self.cwd / name)

            os.fsync = counted

        return self.repeat(name, self.run(name, arm))

    def _mount(self, *arguments: Any) -> None:
        subprocess.run(["mount", *arguments], check=True)


def obey_permissions() -> None:
    """Give up root's power to write where it has no right, CAP_DAC_OVERRIDE; others have none."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits of each
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << 1)
    assert libc.capset(header, sets) == 0


def enter_namespace(names: list[str]) -> None:
    """Move this process to name spaces of its own; in one of users it is root."""
    libc = ctypes.CDLL(None, use_errno=True)
    ids = {"uid": os.getuid(), "gid": os.getgid()}
    assert libc.unshare(sum(CLONE[name] for name in names)) == 0, os.strerror(ctypes.get_errno())
    if "user" in names:
        Path("/proc/self/setgroups").write_text("deny")
        for kind, outside in ids.items():
            Path(f"/proc/self/{kind}_map").write_text(f"0 {outside} 1")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def main() -> None:
    """Carry out a plan and print the result of each run."""
    cwd, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
    import_all()
    if names := plan.get("namespace"):
        enter_namespace(names)
    found = []
    for runs, folder, plots in (("runs", "plain", "false"), ("plotted_runs", "plotted", "true")):
        if runs not in plan:
            continue
        starved = Starved(cwd / folder, [*plan["arguments"], f"plots={plots}"])
        status, said = starved.run("whole")
        assert status == 0, said
        starved.expected = leavings(starved.cwd / "whole")
        found += [getattr(starved, method)(*given) for method, *given in plan[runs]]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
