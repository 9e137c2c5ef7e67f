"""What a run that does not end says last: how it goes on."""

import os
import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from rnn_lab.errors import WriteError
from rnn_lab.io.atomic import find_os_error, write_error
from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.paths import command


def resume_hint(folder: Path) -> str:
    """The last line of an interrupted run."""
    hydra = HydraConfig.get()
    if (folder / "result.json").exists():
        return f"interrupted; the run was finished: {folder}"
    if hydra.mode == RunMode.MULTIRUN:
        return f"interrupted; goes on with: the same command and hydra.sweep.dir={hydra.sweep.dir}"
    from rnn_lab.training.reproduce import as_given  # by now torch is there

    given = as_given(raw_overrides(hydra))
    given = [override for override in given if not override.startswith("resume=")]
    line = f"{command('train')} {shlex.join([*given, f'hydra.run.dir={folder}'])}"
    kept = (folder / "checkpoints" / "last.ckpt").exists()
    return f"interrupted; {'goes on' if kept else 'starts anew'} with: {line}"


def write_failure(folder: Path, error: Exception) -> WriteError | None:
    """Say what could not be written for the run in `folder`, and how it goes on.

    None where `error` is of another kind.
    """
    refused = find_os_error(error)
    if not folder.exists():
        return WriteError(
            f"{folder}: is gone: it was deleted or moved while the run was at work; "
            "the same command starts anew"
        )
    if isinstance(error, WriteError):
        line = str(error)
    elif refused is not None:
        name = refused.filename2 or refused.filename or folder
        line = str(write_error(refused, os.fsdecode(name)))
    else:
        return None
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return WriteError(line)
    return WriteError(f"{line}; then it {resume_hint(folder).removeprefix('interrupted; ')}")
