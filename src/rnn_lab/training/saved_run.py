"""The checkpoint that a run resumes from: what it says, read once, and whether it is intact."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lightning_utilities.core.apply_func import apply_to_collection
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from torch import Tensor

from rnn_lab.data.text_encoder import TextEncoder
from rnn_lab.data.tokenizer_base import Tokenizer
from rnn_lab.errors import CheckpointError
from rnn_lab.io.safe_load import UnsafeCheckpointError
from rnn_lab.io.schema import SCHEMA_KEY, schema_mismatch
from rnn_lab.paths import local_path
from rnn_lab.runs.run_folder import BEST, LAST
from rnn_lab.tracking.metrics_csv import read_metric_rows
from rnn_lab.training.checkpoint_io import BEST_STATE, RESUME, read_checkpoint
from rnn_lab.training.saved_network import DATA
from rnn_lab.training.spec import RunSpec
from rnn_lab.validation import first_problem


class IncompatibleCheckpointError(CheckpointError):
    """An intact checkpoint that this run cannot resume from."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; resume=never starts over")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _RankState(_Strict):
    rng_state: dict[str, Any]
    metric_sums: dict[str, tuple[Tensor, Tensor]]


class _ResumeState(_Strict):
    epoch: NonNegativeInt
    batch_idx: NonNegativeInt
    training_complete: bool
    should_stop: bool = False
    extends: bool = False  # further epochs of a training that was complete
    metrics_rows: NonNegativeInt
    seconds: float
    ranks: list[_RankState]
    signature: dict[str, Any]
    versions: dict[str, str | None]
    initial_weights: dict[Literal["vectors", "init_from"], dict[str, Any]] = {}


class _BestState(_Strict):
    epoch: NonNegativeInt
    loss: float
    step: NonNegativeInt


class _FlowState(_Strict):
    rows: NonNegativeInt


class _Callbacks(_Strict, extra="allow"):
    best: _BestState | None = Field(None, alias=BEST_STATE)
    flow: _FlowState | None = Field(None, alias="GradientFlow")
    __pydantic_extra__: dict[str, dict[str, Any]]


class _Checkpoint(_Strict):
    """The parts of last.ckpt that are read here; Lightning reads the others."""

    global_step: NonNegativeInt
    callbacks: _Callbacks
    resume: _ResumeState = Field(alias=RESUME)


@dataclass(frozen=True)
class SavedRun:
    """What the last.ckpt of a run says, without its weights."""

    path: Path
    error: CheckpointError | None = None  # why no run resumes from it
    state: Mapping[str, Any] = field(default_factory=dict)  # what it has under RESUME, if a run's
    text_encoder: Any = None  # the state of the run's TextEncoder
    global_step: int = 0
    shapes: Any = None  # of its weights, by name
    has_best: bool = False  # whether a best.ckpt belongs to it
    rows: Mapping[str, int] = field(default_factory=dict)  # written before, of each .csv beside it

    @classmethod
    def read(cls, spec: RunSpec) -> SavedRun | None:
        """Return the last.ckpt in the run's folder, or else the checkpoint of `ckpt_path`.

        None: there is neither. With `resume=never`, or where nothing is trained, the one in the
        folder is not read.
        """
        last, config = spec.checkpoint_dir / LAST, spec.config
        if config.train and spec.resume == "auto" and last.exists():
            return cls.of(last)
        return None if config.ckpt_path is None else cls.of(local_path(config.ckpt_path))

    @classmethod
    def of(cls, path: Path) -> SavedRun:
        """Read the checkpoint `path`; `error` says what is wrong with it."""
        try:
            content = read_checkpoint(path)
        except CheckpointError as error:
            return cls(path, error)
        data = content.get(DATA)
        found = cls(
            path,
            state=_resume_state(content.get(RESUME)),
            text_encoder=data.get("text_encoder") if isinstance(data, dict) else None,
        )
        try:
            _check_content(path, content)
        except CheckpointError as error:
            return replace(found, error=error)
        state, callbacks = content[RESUME], content["callbacks"]
        flow = callbacks.get("GradientFlow") or {"rows": 0}
        return replace(
            found,
            global_step=content["global_step"],
            shapes=_shapes(content),
            has_best=bool((callbacks.get(BEST_STATE) or {}).get("best_model_path")),
            rows={"metrics": state["metrics_rows"], "gradient_flow": flow["rows"]},
        )

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.path.parent.parent

    @property
    def vocabulary(self) -> Tokenizer | None:
        """Its vocabulary, None if it has none.

        A resumed run does not read again the texts and the run that it was made of.
        """
        try:
            return TextEncoder.from_state_dict(self.text_encoder).vocabulary
        except (CheckpointError, KeyError, TypeError):
            return None

    @property
    def signature(self) -> Mapping[str, Any]:
        """The signature of its run, see RunSpec; {} if it is damaged."""
        return self.state["signature"] if self.state else {}

    @property
    def initial_weights(self) -> dict[str, Any] | None:
        """What it says of the weights that its training began with; None if it is damaged.

        A resumed run does not read them again: their file may have changed or be gone.
        """
        return dict(self.state.get("initial_weights", {})) if self.state else None

    def has_complete_training_of(self, spec: RunSpec) -> bool:
        """Return whether it is of a complete training of the run, or of more epochs of it.

        A copy of a run in another folder is not one of this folder.
        """
        if not self.state or self.is_copy_for(spec):
            return False
        return bool(self.state["training_complete"] or self.state.get("extends"))

    def is_copy_for(self, spec: RunSpec) -> bool:
        """Return whether it is of the run that `ckpt_path` names, which has another one."""
        return spec.config.ckpt_path not in (None, self.signature.get("ckpt_path"))

    def check(self) -> None:
        """Raise a CheckpointError if a run cannot be resumed from it and the files beside it.

        Raises:
            IncompatibleCheckpointError: it would run code, is not one of this project, or of
                another version of its format.
            CheckpointError: it is damaged, or a file beside it is, or has fewer rows than it had.
                The message does not have the path.
        """
        try:
            if self.error is not None:
                raise self.error
            self._check_files()
        except UnsafeCheckpointError as error:
            raise IncompatibleCheckpointError(self.path, str(error)) from None

    def _check_files(self) -> None:
        if self.has_best:
            try:
                best = read_checkpoint(self.path.with_name(BEST))
            except CheckpointError as error:
                raise type(error)(f"{BEST} beside it: {error}") from None
            if not isinstance(best.get("epoch"), int) or _shapes(best) != self.shapes:
                raise CheckpointError(f"{BEST} beside it: not of the same run")
        for name, rows in self.rows.items():
            try:
                found = len(read_metric_rows(self.folder / f"{name}.csv"))
            except (UnicodeDecodeError, csv.Error) as error:
                raise CheckpointError(f"{name}.csv: damaged: {error}") from None
            if found < rows:
                raise CheckpointError(f"{name}.csv does not hold the {rows} rows that were written")


def _resume_state(state: Any) -> dict[str, Any]:
    """Return the state, {} if it is not one that a run wrote."""
    try:
        _ResumeState.model_validate(state)
    except ValidationError:
        return {}
    # A tensor of the file would keep it open while the run replaces it.
    return dict(apply_to_collection(state, Tensor, Tensor.clone))


def _check_content(path: Path, checkpoint: dict[str, Any]) -> None:
    if mismatch := schema_mismatch(checkpoint.get(SCHEMA_KEY)):
        raise IncompatibleCheckpointError(path, mismatch)
    if RESUME not in checkpoint:
        raise CheckpointError("not a checkpoint that a run can be resumed from")
    try:
        _Checkpoint.model_validate(checkpoint)
    except ValidationError as error:
        problem = f"not a last.ckpt of train.py: {first_problem(error)}"
        raise IncompatibleCheckpointError(path, problem) from None


def _shapes(checkpoint: dict[str, Any]) -> Any:
    weights = checkpoint.get("state_dict")
    return isinstance(weights, dict) and {
        name: getattr(weight, "shape", weight) for name, weight in weights.items()
    }
