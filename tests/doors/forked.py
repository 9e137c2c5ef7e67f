"""Opens doors in processes that are forked from one that has imported what they will.

Importing is most of what a short run takes. What a test asks is answered as by `open_door`, which
stays for tests of a start itself: an import that fails, a variable that is read by one. As a
program it opens a door for each line of its standard input.
"""

import atexit
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NoReturn

from src.imports import importing
from tests.doors.runner import PROJECT, door_environment

IMPORTED = (
    *("matplotlib.backends.backend_agg", "matplotlib.pyplot", "rich.table"),
    *("hydra_plugins.joblib_launcher", "hydra_plugins.submitit_launcher"),
    *("src.inference.evaluate", "src.inference.explanation", "src.reports.explanation_page"),
    *("src.reports.sweep", "src.sweeps.attempts", "src.training.run"),
    *("wandb.sdk.data_types._private", "wandb.sdk.launch.inputs.internal"),
)


def open_warm(
    door: str, *arguments: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python <door> <arguments>` in `cwd`, as `open_door` does."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    asked = {
        "door": door,
        "arguments": arguments,
        "cwd": str(cwd),
        "environment": door_environment(cwd) | (env or {}),
    }
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    return subprocess.CompletedProcess([door, *arguments], **json.loads(server.stdout.readline()))


@functools.cache
def _server() -> subprocess.Popen[str]:
    """The process that is forked, one of each process that tests."""
    home = Path(tempfile.mkdtemp())
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.doors.forked"],
        cwd=PROJECT,
        env=door_environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)  # the end of its input is its end
    return server


def main() -> None:
    """Open a door for each line of input; answer how it ended and what it said."""
    with importing():
        for name in IMPORTED:
            importlib.import_module(name)
        _load_what_is_kept()
    for line in sys.stdin:
        print(json.dumps(_open(**json.loads(line))), flush=True)


def _load_what_is_kept() -> None:
    """Compiled steps and fonts, which come with the first of them that is taken."""
    import torch

    from src.models.recurrent import GRU
    from src.reports.canvas import new_axes, new_figure, save

    outputs, _ = GRU(1, 1)(torch.zeros(1, 1, 1), torch.ones(1, dtype=torch.int64))
    outputs.sum().backward()
    figure = new_figure(4, 4, "headline", "run")
    new_axes(figure, 111, "title", "x", "y")
    with tempfile.TemporaryDirectory() as folder:
        save(figure, Path(folder) / "figure.png")


def _open(door: str, arguments: list[str], cwd: str, environment: dict[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            with Path(os.devnull).open("rb") as nothing:
                for stream, file in enumerate((nothing, out, err)):
                    os.dup2(file.fileno(), stream)
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(environment)
            _take_media_folder()
            _be(door, arguments)
        _, status = os.waitpid(pid, 0)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return {
        "returncode": os.waitstatus_to_exitcode(status),
        "stdout": said[0],
        "stderr": said[1],
    }


def _take_media_folder() -> None:
    """Have one of its own for W&B, which makes it when imported and removes it in the end."""
    media = sys.modules["wandb.sdk.data_types._private"].MEDIA_TMP
    media._finalizer.detach()
    media.__init__("wandb-media")


def _be(door: str, arguments: list[str]) -> NoReturn:
    status: Any = 1
    try:
        sys.argv = [door, *arguments]
        importlib.import_module(".".join(Path(door).with_suffix("").parts)).main()
        status = 0
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for step in (atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
            step()
        os._exit(status if isinstance(status, int) else status is not None)


if __name__ == "__main__":
    main()
