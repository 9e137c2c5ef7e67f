"""What an interrupted run left in its folder, and whether this run may go on from it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_only
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from torch import Tensor

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.errors import CheckpointError, OutputDirConflictError, sanitize
from rnn_lab.io.safe_load import UnsafeCheckpointError
from rnn_lab.tracking.metrics_csv import read_metrics
from rnn_lab.training.callbacks.exact_checkpoint import RESUME
from rnn_lab.training.checkpoint_io import BEST, LAST, read_checkpoint, restore_best
from rnn_lab.training.config import RunConfig
from rnn_lab.training.rollbacks import ROLLBACKS
from rnn_lab.training.run_metadata import git_commit, versions
from rnn_lab.validation import FINGERPRINT_EXCLUDED, flatten

_NAMED = 3  # differing options


class IncompatibleCheckpointError(CheckpointError):
    """A whole checkpoint that no run of this project left, or a run that is not this one."""


@dataclass(frozen=True)
class ResumePoint:
    """A training that goes on: from which checkpoint, and what that says of it."""

    path: Path
    state: dict[str, Any]  # see rnn_lab.training.callbacks.exact_checkpoint
    global_step: int


class _Ranks(BaseModel):
    """What a process of the training keeps."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    random: dict[str, Any]
    sums: dict[str, tuple[Tensor, Tensor]]


class _State(BaseModel):
    """What rnn_lab.training.callbacks.exact_checkpoint puts under RESUME."""

    model_config = ConfigDict(strict=True)

    epoch: NonNegativeInt
    batch: NonNegativeInt
    trained: bool
    rows: NonNegativeInt
    seconds: float
    ranks: list[_Ranks]
    signature: dict[str, Any]
    versions: dict[str, str | None]


class _Checkpoint(BaseModel):
    """The parts of last.ckpt that are read here; the others are Lightning's to read."""

    model_config = ConfigDict(strict=True)

    global_step: NonNegativeInt
    callbacks: dict[str, dict[str, Any]]
    resume: _State = Field(alias=RESUME)


def describe_making(
    config: RunConfig, data: TextDataModule, *, accelerator: str, devices: int, precision: str
) -> dict[str, Any]:
    """Return what decides over every figure of a run, in plain types, to be kept with it."""
    options = config.model_dump(
        mode="json", include={"seed", "model", "optimizer", "scheduler", "trainer"}
    )
    options["data"] = data.config.model_dump(mode="json")
    options["trainer"] |= {"accelerator": accelerator, "devices": devices, "precision": precision}
    signature = {
        name: value for name, value in flatten(options).items() if name not in FINGERPRINT_EXCLUDED
    }
    # Where reviews are found is without effect; this says whether they are the same.
    signature["the reviews"] = data.corpus.fingerprint
    signature["the vocabulary"] = data.text_encoder.fingerprint
    return {"signature": signature, "versions": versions() | {"commit": git_commit()}}


def find_resume_point(
    folder: Path, resume: Literal["auto", "never"], making: dict[str, Any]
) -> ResumePoint | None:
    """Return the half-done run in `folder` that a run of that making goes on with, if any.

    Where there is one that cannot be gone on with exactly, because a file of it is damaged or
    gone, it says so and removes its checkpoints, for the run to start anew. With `never` it only
    removes them.

    Raises:
        OutputDirConflictError: the half-done run was made with other options; names the first ones.
        CheckpointError: it would run code, or is whole and by another program.
    """
    checkpoints = folder / "checkpoints"
    last = checkpoints / LAST
    stale = [last, checkpoints / BEST, folder / ROLLBACKS]
    _tidy(folder)
    if resume == "never":
        _remove(stale)
        return None
    if not last.exists():
        return None
    try:
        checkpoint = read_checkpoint(last)
        if RESUME not in checkpoint:
            raise CheckpointError("by a version of this project that could not go on exactly")
        _check_content(last, checkpoint)
        _check_files(folder, checkpoint)
    except UnsafeCheckpointError as error:
        raise CheckpointError(f"{last}: {error}; resume=never starts anew") from None
    except IncompatibleCheckpointError:
        raise
    except CheckpointError as error:
        _say(f"{last}: {error}; the run starts anew")
        _remove(stale)
        return None
    state = checkpoint[RESUME]
    _check_making(folder, state, making)
    resume_point = ResumePoint(last, state, checkpoint["global_step"])
    _say(_where(resume_point))
    return resume_point


def incompatible_checkpoint(path: Path, error: Exception) -> IncompatibleCheckpointError:
    """Return what to tell where a checkpoint is whole, and its parts do not fit this run."""
    reason = sanitize(" ".join(str(error).split()))
    said = f"cannot be gone on with: {type(error).__name__}: {reason}"
    return IncompatibleCheckpointError(f"{path}: {said}; resume=never starts anew")


def is_state_mismatch(error: Exception) -> bool:
    """Whether `error` is one that comes of taking over a checkpoint whose parts do not fit."""
    kinds = (AttributeError, IndexError, KeyError, TypeError, ValueError, CheckpointError)
    return isinstance(error, kinds) or "loading state_dict" in str(error)


def _check_content(path: Path, checkpoint: dict[str, Any]) -> None:
    try:
        _Checkpoint.model_validate(checkpoint)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = sanitize(f"{where}: {first['msg']}")
        raise IncompatibleCheckpointError(
            f"{path}: not what train.py leaves: {said}; resume=never starts anew"
        ) from None


def _shapes(checkpoint: dict[str, Any]) -> Any:
    weights = checkpoint.get("state_dict")
    return isinstance(weights, dict) and {
        name: getattr(w, "shape", w) for name, w in weights.items()
    }


def _check_files(folder: Path, checkpoint: dict[str, Any]) -> None:
    """Make sure of the files beside last.ckpt that a resumed run needs.

    Raises:
        CheckpointError: one is damaged, or not as long as it was.
    """
    for state in checkpoint["callbacks"].values():
        if state.get("best_model_path"):
            best = folder / "checkpoints" / Path(state["best_model_path"]).name
            try:
                content = read_checkpoint(best)
            except CheckpointError as error:
                raise type(error)(f"{best.name} beside it: {error}") from None
            epoch = content.get("epoch")
            if not isinstance(epoch, int) or _shapes(content) != _shapes(checkpoint):
                raise CheckpointError(f"{best.name} beside it: not of the same run")
    flow = checkpoint["callbacks"].get("GradientFlow", {"rows": 0})
    for name, rows in (("metrics", checkpoint[RESUME]["rows"]), ("gradient_flow", flow["rows"])):
        if len(read_metrics(folder / f"{name}.csv")) < rows:
            raise CheckpointError(f"{name}.csv does not hold the {rows} rows that were written")


def _check_making(folder: Path, state: dict[str, Any], making: dict[str, Any]) -> None:
    there, here = state["signature"], making["signature"]
    differ = [
        f"{name}={there.get(name)} there, {here.get(name)} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    ]
    if differ:
        more = f" (and {len(differ) - _NAMED} more)" if len(differ) > _NAMED else ""
        raise OutputDirConflictError(
            f"hydra.run.dir={folder}: holds a half-done run with other options: "
            f"{'; '.join(differ[:_NAMED])}{more}. Choose another folder, or resume=never to start "
            "anew in this one"
        )
    was, now = state["versions"], making["versions"]
    changed = [f"{name} {was.get(name)} then, {now[name]} now" for name in now
               if was.get(name) != now[name]]  # fmt: skip
    if changed:
        _say(f"the last digits of figures may differ, the run was begun with: {'; '.join(changed)}")


def _where(resume_point: ResumePoint) -> str:
    state = resume_point.state
    if state["trained"]:
        return "the training was done: goes on with the test"
    return (
        f"goes on in epoch {state['epoch']} after {state['batch']} batches "
        f"(step {resume_point.global_step})"
    )


@rank_zero_only
def _tidy(folder: Path) -> None:
    """Clear away what a kill left half-written."""
    _remove([*folder.glob(".*.partial"), *(folder / "checkpoints").glob(".*.partial")])
    restore_best(folder / "checkpoints")


@rank_zero_only
def _remove(paths: Any) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
