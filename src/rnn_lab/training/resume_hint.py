"""The command that resumes a run, printed when it is interrupted or cannot write a file.

A signal may interrupt an import of torch, after which torch cannot be imported: this module does
not import it.
"""

import os

from rnn_lab.errors import WriteError
from rnn_lab.io.atomic import find_os_error, write_error
from rnn_lab.overrides import quote_override, shell_command, shell_quote
from rnn_lab.paths import command_prefix
from rnn_lab.runs.run_folder import LAST
from rnn_lab.training.reproduce import collapse
from rnn_lab.training.spec import RunSpec


def resume_hint(spec: RunSpec) -> str:
    """Return the last line of an interrupted run: the command that resumes it."""
    if spec.result_path.exists():
        return f"interrupted; the run was finished: {spec.output_dir}"
    if spec.sweep is not None:
        folder = shell_quote(quote_override("hydra.sweep.dir", str(spec.sweep.dir)))
        return f"interrupted; resume with: the same command and {folder}"
    what = "resume" if (spec.checkpoint_dir / LAST).exists() else "start over"
    return f"interrupted; {what} with: {resume_command(spec)}"


def resume_command(spec: RunSpec) -> str:
    """Return the shell command that trains the run again in its folder."""
    given = [o for o in collapse(spec.raw_overrides) if not o.startswith("resume=")]
    folder = quote_override("hydra.run.dir", str(spec.output_dir))
    return shell_command(command_prefix("train"), *spec.hydra_arguments, *given, folder)


def write_failure(spec: RunSpec, error: Exception) -> WriteError | None:
    """Return the error to show where a file could not be written, with how to resume.

    None: `error` is of another kind.
    """
    refused = find_os_error(error)
    if not spec.output_dir.exists():
        return WriteError(
            f"{spec.output_dir}: was deleted or moved while the run trained; "
            "the same command starts over"
        )
    if not isinstance(error, WriteError):
        if refused is None:
            return None
        name = refused.filename2 or refused.filename or spec.output_dir
        error = write_error(refused, os.fsdecode(name))
    if spec.sweep is not None:
        return WriteError(str(error))
    return WriteError(f"{error}; then {resume_hint(spec).removeprefix('interrupted; ')}")
