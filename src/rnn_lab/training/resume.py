"""Resume an interrupted run from its last.ckpt, or say why that cannot be."""

import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from rnn_lab.errors import (
    CheckpointError,
    ConfigError,
    OutputDirConflictError,
    collapse_whitespace,
    sanitize,
)
from rnn_lab.paths import local_path
from rnn_lab.runs.result_json import diff_options, format_differences
from rnn_lab.runs.run_folder import BEST, CHECKPOINT_DIR, LAST
from rnn_lab.training.checkpoint_io import ResumePoint, restore_best
from rnn_lab.training.more_epochs import (
    asks_for_more_epochs,
    check_early_stop,
    check_schedule,
    is_exact,
    may_change,
)
from rnn_lab.training.rollback import ROLLBACKS
from rnn_lab.training.saved_run import IncompatibleCheckpointError, SavedRun
from rnn_lab.training.spec import RunSpec

_OF_TEST = {"test", "trainer.limit_test_batches"}  # may change: no trained weight depends on them
_OF_VALIDATION_AND_TEST = {"data.eval_batch_size"}  # may change when nothing is validated any more
# Where texts and weights are, which may change, and the part of the signature that says which they
# are.
_FINGERPRINTS_OF = {
    "data.train_path": {"data.fingerprint"},
    "data.val_path": {"data.fingerprint"},
    "data.test_path": {"data.fingerprint"},
    "data.corpus": {"data.fingerprint"},
    "data.unlabelled": {
        *("data.unlabelled_fingerprint", "data.pseudo_labels_fingerprint"),
        "data.vectors_fingerprint",
    },
    "data.teacher": {"data.pseudo_labels_fingerprint"},
    "data.vectors": {"data.vectors_fingerprint"},
    "model.init_from": {"model.init_from_fingerprint"},
}
_FILES = ("metrics.csv", "gradient_flow.csv", ROLLBACKS)


def find_resume_point(
    spec: RunSpec, metadata: Mapping[str, Any], saved: SavedRun | None
) -> ResumePoint | None:
    """Return where a run with this metadata resumes from the `saved` one.

    A checkpoint that cannot be resumed exactly, because one of its files is damaged or gone, is
    removed with a message, and the run starts over; that of a finished run, or of `ckpt_path`, is
    kept. The files of the run of `ckpt_path` are copied into the folder of this one, in place of
    those that `resume=never` does not resume.

    Raises:
        OutputDirConflictError: the unfinished run has other options; names the first ones.
        CheckpointError: the checkpoint would run code, is not one of this project, or of another
            version of its format; or that of a finished run, or of `ckpt_path`, is damaged.
    """
    checkpoints = spec.checkpoint_dir
    # A kill left them.
    _remove([*spec.output_dir.glob(".*.partial"), *checkpoints.glob(".*.partial")])
    restore_best(checkpoints)
    if saved is None:
        return None
    if spec.config.ckpt_path and saved.path == local_path(spec.config.ckpt_path):
        _check_ckpt_path(saved.path)
    try:
        saved.check()
    except IncompatibleCheckpointError:
        raise
    except CheckpointError as error:
        if saved.path != checkpoints / LAST:
            raise CheckpointError(f"ckpt_path={saved.path}: {error}") from error
        if spec.result_path.exists():
            raise IncompatibleCheckpointError(saved.path, str(error)) from error
        _print(f"{saved.path}: {error}; the run starts over")
        remove_checkpoints(spec)
        return None
    point = _compare(spec, metadata, saved)
    if saved.path != point.path:
        remove_unresumed(spec)
        _copy_run(saved.path, spec.output_dir)
    return point


def remove_unresumed(spec: RunSpec) -> None:
    """Remove the run in the folder where `resume=never` starts over: its checkpoints and result."""
    if spec.resume == "never" and not spec.config.trainer.fast_dev_run:
        remove_result(spec)
        remove_checkpoints(spec)


def remove_result(spec: RunSpec) -> None:
    """Let the folder of a finished run be that of an unfinished one, which can be resumed."""
    _remove([spec.result_path])


def remove_checkpoints(spec: RunSpec) -> None:
    """Remove what a run could be resumed from."""
    checkpoints = spec.checkpoint_dir
    _remove([checkpoints / LAST, checkpoints / BEST, spec.output_dir / ROLLBACKS])


def _compare(spec: RunSpec, metadata: Mapping[str, Any], saved: SavedRun) -> ResumePoint:
    """Return the point at which the run resumes, and print it with the options that differ."""
    state = saved.state
    before, wanted, epoch = state["signature"], metadata["signature"], state["epoch"]
    extends = state["training_complete"] and asks_for_more_epochs(before, wanted, epoch)
    changed = _check_signature(spec, state, metadata, extends=extends)
    if extends:
        exact = "on CPU bit-identical" if is_exact(changed, before, wanted) else "not bit-identical"
        trained = "1 epoch" if epoch == 1 else f"{epoch} epochs"
        _print(
            f"the training was complete: continues after {trained} up to "
            f"trainer.max_epochs={wanted['trainer.max_epochs']}, {exact} to a run that is started "
            "with these options"
        )
    elif state["training_complete"]:
        _print("the training was complete: resumes with the test")
    else:
        where = f"epoch {epoch} after {state['batch_idx']} batches (step {saved.global_step})"
        _print(f"resumes in {where}")
    return ResumePoint(
        spec.checkpoint_dir / LAST,
        state,
        saved.global_step,
        tuple(changed),
        extends,
        is_copy=saved.is_copy_for(spec),
    )


def incompatible_checkpoint(path: Path, error: Exception) -> IncompatibleCheckpointError | None:
    """Return the error to show for an intact checkpoint whose parts do not fit this run.

    None: `error` is not one of loading such a checkpoint.
    """
    kinds = (AttributeError, IndexError, KeyError, TypeError, ValueError, CheckpointError)
    if not isinstance(error, kinds) and "loading state_dict" not in str(error):
        return None
    reason = f"{type(error).__name__}: {sanitize(collapse_whitespace(error))}"
    return IncompatibleCheckpointError(path, f"cannot be resumed from: {reason}")


def _check_signature(
    spec: RunSpec, state: Mapping[str, Any], metadata: Mapping[str, Any], *, extends: bool
) -> list[str]:
    """Return the names of the options that differ, where they may.

    Raises:
        OutputDirConflictError: they may not.
    """
    folder, ckpt_path = spec.output_dir, spec.config.ckpt_path
    saved, wanted = state["signature"], metadata["signature"]
    only_tests = state["training_complete"] and not extends
    known = saved.keys() & wanted.keys()
    free = _OF_TEST | {place for place, texts in _FINGERPRINTS_OF.items() if texts & known}
    free |= _OF_VALIDATION_AND_TEST if only_tests else set()
    found = [
        one
        for one in diff_options(saved, wanted)
        if one[0] not in free and (ckpt_path is None or one[0] != "ckpt_path")
    ]
    names = [name for name, _, _ in found]
    where = f"hydra.run.dir={folder}" if ckpt_path is None else f"ckpt_path={ckpt_path}"
    if extends:
        check_early_stop(where, saved, wanted, state["epoch"])
    if ckpt_path is None and found and not (extends and all(map(may_change, names))):
        kind = "a finished training" if state["training_complete"] else "an unfinished run"
        raise OutputDirConflictError(
            f"{where}: contains {kind} with different options: "
            f"{format_differences(found, most=3)}. Choose another folder, or resume=never to start "
            "over in this one"
        )
    if ckpt_path is None and extends:
        check_schedule(where, saved, wanted)
    if found and not (extends and is_exact(names, saved, wanted)):
        _print(f"{ckpt_path or folder}: resumed with other options: {format_differences(found)}")
    _print_versions(state, metadata)
    return names


def _print_versions(state: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    changed = [
        f"{name} {saved} then, {now} now"
        for name, saved, now in diff_options(state["versions"], metadata["versions"])
    ]
    if changed:
        _print(f"the last digits of metrics may differ, the run began with: {'; '.join(changed)}")


def _check_ckpt_path(checkpoint: Path) -> None:
    if not checkpoint.is_file():
        raise ConfigError(f"ckpt_path={checkpoint}: there is no such file")
    if checkpoint.name != LAST:
        raise ConfigError(
            f"ckpt_path={checkpoint}: only a {LAST} can be resumed from; "
            "train=false tests any checkpoint"
        )


@rank_zero_only
def _copy_run(checkpoint: Path, folder: Path) -> None:
    """Copy what a run needs to resume from `checkpoint` of another folder."""
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
