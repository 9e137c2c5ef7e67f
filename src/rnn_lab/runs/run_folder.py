"""A run folder and the files in it that stand for it: its checkpoints and its result.json."""

from pathlib import Path

from rnn_lab.errors import CheckpointError
from rnn_lab.paths import local_path

ONNX_SUFFIX = ".onnx"
CHECKPOINT_DIR = "checkpoints"  # of a run folder
BEST, LAST = "best.ckpt", "last.ckpt"  # in it
SWEEP_FILE = "multirun.yaml"  # a sweeper writes it before the first job
CONFIG_DIR = ".hydra"  # of a run folder: the composed config and the overrides
RUN_PAGE, SWEEP_PAGE = "run.html", "sweep.html"  # which link to each other


def is_onnx_file(run: str | Path) -> bool:
    """Return whether `run`, as given by the user, stands for an .onnx file and no run folder."""
    path = local_path(run)
    return path.suffix.lower() == ONNX_SUFFIX and not path.is_dir()


def is_sweep_dir(folder: Path) -> bool:
    """Return whether `folder` is that of a sweep."""
    return (folder / SWEEP_FILE).is_file()


def run_folder(path: Path) -> Path | None:
    """Return the run folder of `path`: itself, or that of its result.json or checkpoint.

    None for any other file, such as a copy of a checkpoint.
    """
    if path.is_dir():  # a run may be in a folder that is called like that of checkpoints
        return path
    if path.name == "result.json":
        return path.parent
    folder = path.parent
    if folder.name in ("", ".."):  # a name without its folder
        folder = folder.resolve()
    return folder.parent if folder.name == CHECKPOINT_DIR else None


def find_checkpoint(run: str | Path, *, or_onnx: bool = False) -> Path:
    """Return the file that `run` stands for, in every command and in rnn_lab.load.

    That is a .ckpt or .safetensors file itself. Of a run folder, or its result.json, it is the best
    checkpoint, or else the last one. `~` is the home folder. With `or_onnx`, an .onnx file is one
    of the choices in the message.

    Raises:
        CheckpointError: there is none; names the paths that were tried.
    """
    path = local_path(run)
    if path.name == "result.json":
        path = path.parent
    if path.is_file():
        return path
    if not path.exists():
        kinds = ".ckpt, .safetensors or .onnx" if or_onnx else ".ckpt or .safetensors"
        raise CheckpointError(f"{run}: no such run folder, {kinds} file")
    if not path.is_dir():
        raise CheckpointError(f"{run}: not a regular file")
    best, last = (path / CHECKPOINT_DIR / name for name in (BEST, LAST))
    for place in (best, last):
        if place.is_file():
            return place
    if is_sweep_dir(path):
        raise CheckpointError(f"{run}: the folder of a sweep; name one of its runs")
    raise CheckpointError(f"{run}: no finished run; looked for {best} and {last.name}")
