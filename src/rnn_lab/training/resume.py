"""Resume an interrupted run from its last.ckpt, or say why that cannot be."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_only
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from torch import Tensor

from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.errors import (
    CheckpointError,
    ConfigError,
    OutputDirConflictError,
    WriteError,
    sanitize,
)
from rnn_lab.io.atomic import find_os_error, write_error
from rnn_lab.io.run_file import CHECKPOINT_DIR
from rnn_lab.io.safe_load import UnsafeCheckpointError, safe_load
from rnn_lab.io.schema import SCHEMA_KEY, schema_mismatch
from rnn_lab.paths import local_path
from rnn_lab.reports.run_files import diff_options
from rnn_lab.tracking.metrics_csv import read_metric_rows
from rnn_lab.training.checkpoint_io import (
    BEST,
    BEST_STATE,
    LAST,
    RESUME,
    ResumePoint,
    read_checkpoint,
    restore_best,
)
from rnn_lab.training.more_epochs import (
    asks_for_more_epochs,
    check_early_stop,
    check_schedule,
    is_exact,
    may_change,
)
from rnn_lab.training.resume_hint import resume_hint
from rnn_lab.training.rollback import ROLLBACKS
from rnn_lab.training.saved_network import DATA
from rnn_lab.training.spec import RunSpec

_SHOWN = 3  # differing options in a message
_OF_TEST = {"test", "trainer.limit_test_batches"}  # may change: no trained weight depends on them
_OF_VALIDATION_AND_TEST = {"data.eval_batch_size"}  # may change when nothing is validated any more
_FILES = ("metrics.csv", "gradient_flow.csv", ROLLBACKS)


class IncompatibleCheckpointError(CheckpointError):
    """An intact checkpoint that this run cannot resume from."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _RankState(_Strict):
    rng_state: dict[str, Any]
    metric_sums: dict[str, tuple[Tensor, Tensor]]


class _ResumeState(_Strict):
    epoch: NonNegativeInt
    batch_idx: NonNegativeInt
    training_complete: bool
    extends: bool = False  # further epochs of a training that was complete
    metrics_rows: NonNegativeInt
    seconds: float
    ranks: list[_RankState]
    signature: dict[str, Any]
    versions: dict[str, str | None]
    initial_weights: dict[Literal["vectors", "init_from"], dict[str, Any]] = {}


class _BestState(_Strict):
    loss: float
    step: NonNegativeInt


class _Callbacks(_Strict, extra="allow"):
    best: _BestState | None = Field(None, alias=BEST_STATE)
    __pydantic_extra__: dict[str, dict[str, Any]]


class _Checkpoint(_Strict):
    """The parts of last.ckpt that are read here; Lightning reads the others."""

    global_step: NonNegativeInt
    callbacks: _Callbacks
    resume: _ResumeState = Field(alias=RESUME)


def find_resume_point(
    folder: Path,
    resume: Literal["auto", "never"],
    metadata: Mapping[str, Any],
    *,
    ckpt_path: str | None = None,
) -> ResumePoint | None:
    """Return the checkpoint in `folder` that a run with this metadata resumes from.

    A checkpoint that cannot be resumed exactly, because one of its files is damaged or gone, is
    removed with a message, and the run starts over. `resume=never` only removes it. With
    `ckpt_path`, the files of that run are copied into an empty folder first.

    Raises:
        OutputDirConflictError: the unfinished run has other options; names the first ones.
        CheckpointError: the checkpoint would run code, is not one of this project, or of another
            version of its format.
    """
    checkpoints = folder / CHECKPOINT_DIR
    last = checkpoints / LAST
    stale = [last, checkpoints / BEST, folder / ROLLBACKS]
    _remove([*folder.glob(".*.partial"), *checkpoints.glob(".*.partial")])  # a kill left them
    restore_best(checkpoints)
    if resume == "never":
        _remove(stale)
    if ckpt_path is not None and not last.exists():
        _copy_run(local_path(ckpt_path), folder)
    if not last.exists():
        return None
    try:
        checkpoint = read_checkpoint(last)
        _check_content(last, checkpoint)
        _check_files(folder, checkpoint)
    except UnsafeCheckpointError as error:
        raise _incompatible(last, str(error)) from None
    except IncompatibleCheckpointError:
        raise
    except CheckpointError as error:
        _print(f"{last}: {error}; the run starts over")
        _remove(stale)
        return None
    state = checkpoint[RESUME]
    saved, wanted, epoch = state["signature"], metadata["signature"], state["epoch"]
    extends = state["training_complete"] and asks_for_more_epochs(saved, wanted, epoch)
    changed = _check_signature(folder, state, metadata, ckpt_path, extends=extends)
    step = checkpoint["global_step"]
    if extends:
        exact = "on CPU bit-identical" if is_exact(changed, saved, wanted) else "not bit-identical"
        trained = "1 epoch" if epoch == 1 else f"{epoch} epochs"
        _print(
            f"the training was complete: continues after {trained} up to "
            f"trainer.max_epochs={wanted['trainer.max_epochs']}, {exact} to a run that is started "
            "with these options"
        )
    elif state["training_complete"]:
        _print("the training was complete: resumes with the test")
    else:
        where = f"epoch {epoch} after {state['batch_idx']} batches (step {step})"
        _print(f"resumes in {where}")
    return ResumePoint(last, state, step, tuple(changed), extends, is_copy=_is_copy(saved, wanted))


def recorded_initial_weights(
    folder: Path, resume: Literal["auto", "never"], ckpt_path: str | None
) -> dict[str, Any] | None:
    """Return what last.ckpt says of the weights that its training began with, None without one.

    A resumed run does not read them again: their file may have changed or be gone.
    """
    try:
        state = _read_saved(folder, resume, ckpt_path)[RESUME]
        found = _ResumeState.model_validate(state).initial_weights
    except (CheckpointError, KeyError, ValidationError):  # `find_resume_point` says what is wrong
        return None
    return {str(name): about for name, about in found.items()}


def recorded_vocabulary(
    folder: Path, resume: Literal["auto", "never"], ckpt_path: str | None
) -> Tokenizer | None:
    """Return the vocabulary in last.ckpt, None without one.

    A resumed run does not read again the texts and the run that it was made of.
    """
    try:
        state = _read_saved(folder, resume, ckpt_path)[DATA]["text_encoder"]
        return TextEncoder.from_state_dict(state).vocabulary
    except (CheckpointError, KeyError, TypeError):  # `find_resume_point` says what is wrong
        return None


def _read_saved(
    folder: Path, resume: Literal["auto", "never"], ckpt_path: str | None
) -> dict[str, Any]:
    """Return the checkpoint of the folder, or that of `ckpt_path`; without one, nothing."""
    last = folder / CHECKPOINT_DIR / LAST
    if resume == "never" or not last.exists():
        if ckpt_path is None:
            return {}
        last = local_path(ckpt_path)
    try:
        return read_checkpoint(last)
    except OSError:
        return {}


def holds_complete_training(spec: RunSpec) -> bool:
    """Return whether last.ckpt is of a complete training of the folder, or of more epochs of it.

    A copy of a run in another folder is not one of this folder.
    """
    try:
        saved = safe_load(spec.checkpoint_dir / LAST, mmap=True)[RESUME]
        state = _ResumeState.model_validate(saved)
    except (CheckpointError, KeyError, TypeError, ValidationError):
        return False
    if _is_copy(state.signature, {"ckpt_path": spec.config.ckpt_path}):
        return False
    return state.training_complete or state.extends


def _is_copy(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint is of the run that ckpt_path names, which has another one."""
    return wanted.get("ckpt_path") not in (None, saved.get("ckpt_path"))


def incompatible_checkpoint(path: Path, error: Exception) -> IncompatibleCheckpointError | None:
    """Return the error to show for an intact checkpoint whose parts do not fit this run.

    None: `error` is not one of loading such a checkpoint.
    """
    kinds = (AttributeError, IndexError, KeyError, TypeError, ValueError, CheckpointError)
    if not isinstance(error, kinds) and "loading state_dict" not in str(error):
        return None
    reason = f"{type(error).__name__}: {sanitize(' '.join(str(error).split()))}"
    return _incompatible(path, f"cannot be resumed from: {reason}")


def _incompatible(path: Path, reason: str) -> IncompatibleCheckpointError:
    return IncompatibleCheckpointError(f"{path}: {reason}; resume=never starts over")


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


def _check_content(path: Path, checkpoint: dict[str, Any]) -> None:
    if mismatch := schema_mismatch(checkpoint.get(SCHEMA_KEY)):
        raise _incompatible(path, mismatch)
    if RESUME not in checkpoint:
        raise CheckpointError("not a checkpoint that a run can be resumed from")
    try:
        _Checkpoint.model_validate(checkpoint)
    except ValidationError as error:
        first = error.errors()[0]
        where = sanitize(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        raise _incompatible(path, f"not a last.ckpt of train.py: {where}") from None


def _check_files(folder: Path, checkpoint: dict[str, Any]) -> None:
    """Raise a CheckpointError if a file beside last.ckpt is damaged, or shorter than it was."""
    if checkpoint["callbacks"].get(BEST_STATE, {}).get("best_model_path"):
        try:
            best = read_checkpoint(folder / CHECKPOINT_DIR / BEST)
        except CheckpointError as error:
            raise type(error)(f"{BEST} beside it: {error}") from None
        if not isinstance(best.get("epoch"), int) or _shapes(best) != _shapes(checkpoint):
            raise CheckpointError(f"{BEST} beside it: not of the same run")
    flow = checkpoint["callbacks"].get("GradientFlow", {"rows": 0})
    written = {"metrics": checkpoint[RESUME]["metrics_rows"], "gradient_flow": flow["rows"]}
    for name, rows in written.items():
        if len(read_metric_rows(folder / f"{name}.csv")) < rows:
            raise CheckpointError(f"{name}.csv does not hold the {rows} rows that were written")


def _shapes(checkpoint: dict[str, Any]) -> Any:
    weights = checkpoint.get("state_dict")
    return isinstance(weights, dict) and {
        name: getattr(weight, "shape", weight) for name, weight in weights.items()
    }


def _check_signature(
    folder: Path,
    state: dict[str, Any],
    metadata: Mapping[str, Any],
    ckpt_path: str | None,
    *,
    extends: bool,
) -> list[str]:
    """Return the names of the options that differ, where they may.

    Raises:
        OutputDirConflictError: they may not.
    """
    saved, wanted = state["signature"], metadata["signature"]
    only_tests = state["training_complete"] and not extends
    free = _OF_TEST | (_OF_VALIDATION_AND_TEST if only_tests else set())
    found = [
        one
        for one in diff_options(saved, wanted)
        if one[0] not in free and (ckpt_path is None or one[0] != "ckpt_path")
    ]
    names = [name for name, _, _ in found]
    differences = [f"{name}={old} (saved), {new} (requested)" for name, old, new in found]
    where = f"hydra.run.dir={folder}" if ckpt_path is None else f"ckpt_path={ckpt_path}"
    if extends:
        check_early_stop(where, saved, wanted, state["epoch"])
    if ckpt_path is None and differences and not (extends and all(map(may_change, names))):
        hidden = len(differences) - _SHOWN
        more = f" (and {hidden} more)" if hidden > 0 else ""
        kind = "a finished training" if state["training_complete"] else "an unfinished run"
        raise OutputDirConflictError(
            f"{where}: contains {kind} with different options: "
            f"{'; '.join(differences[:_SHOWN])}{more}. Choose another folder, or resume=never to "
            "start over in this one"
        )
    if ckpt_path is None and extends:
        check_schedule(where, saved, wanted)
    if differences and not (extends and is_exact(names, saved, wanted)):
        _print(f"{ckpt_path or folder}: resumed with other options: {'; '.join(differences)}")
    _print_versions(state, metadata)
    return names


def _print_versions(state: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    changed = [
        f"{name} {saved} then, {now} now"
        for name, saved, now in diff_options(state["versions"], metadata["versions"])
    ]
    if changed:
        _print(f"the last digits of metrics may differ, the run began with: {'; '.join(changed)}")


@rank_zero_only
def _copy_run(checkpoint: Path, folder: Path) -> None:
    """Copy what a run needs to resume from `checkpoint` of another folder."""
    if not checkpoint.is_file():
        raise ConfigError(f"ckpt_path={checkpoint}: there is no such file")
    if checkpoint.name != LAST:
        raise ConfigError(
            f"ckpt_path={checkpoint}: only a {LAST} can be resumed from; "
            "train=false tests any checkpoint"
        )
    (folder / CHECKPOINT_DIR).mkdir(parents=True, exist_ok=True)
    copied = {folder / name: checkpoint.parent.parent / name for name in _FILES}
    copied |= {folder / CHECKPOINT_DIR / name: checkpoint.with_name(name) for name in (BEST, LAST)}
    for target, source in copied.items():
        if source.is_file():
            shutil.copyfile(source, target)


@rank_zero_only
def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@rank_zero_only
def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
