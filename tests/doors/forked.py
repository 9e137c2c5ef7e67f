"""Opens doors one after the other, each in a process forked from one that has only imported.

Importing is most of what a short run takes. Run as a program it prints what became of each line:

    python -m tests.doors.forked <folder> <lines as JSON: [["train.py", "model=gru"], ...]>
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.doors.runner import PROJECT, door_environment
from tests.training.killing import end_of, start

IMPORTED = ("matplotlib.pyplot", "rich.table", "src.training.run")


def open_doors(
    *lines: tuple[str, ...], cwd: Path, env: dict[str, str] | None = None
) -> list[subprocess.CompletedProcess[str]]:
    """Run `python <door> <arguments>` in `cwd` for each line, as `open_door` does."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.doors.forked", str(cwd), json.dumps(lines)],
        cwd=PROJECT,
        env=door_environment(cwd) | (env or {}),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [subprocess.CompletedProcess(*ended) for ended in json.loads(done.stdout)]


def main() -> None:
    """Open each door and wait for its end."""
    cwd, lines = Path(sys.argv[1]), json.loads(sys.argv[2])
    for name in IMPORTED:
        importlib.import_module(name)
    ended = []
    for number, line in enumerate(lines):
        said = [cwd / f"said{number}.{stream}" for stream in ("out", "err")]

        def redirect(said: list[Path] = said) -> None:
            for stream, path in enumerate(said, 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)

        status = end_of(start(line[1:], cwd, redirect, door=line[0]))
        ended.append((line, status, *(path.read_text() for path in said)))
        for path in said:
            path.unlink()
    print(json.dumps(ended))


if __name__ == "__main__":
    main()
