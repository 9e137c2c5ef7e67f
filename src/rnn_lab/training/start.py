"""Where a training starts: at the checkpoint in its folder, or with its initial weights."""

from typing import Any, NamedTuple

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.data.options import SKIPGRAM
from rnn_lab.training.artifacts import git_commit, versions
from rnn_lab.training.checkpoint_io import ResumePoint
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import Hardware
from rnn_lab.training.initial_weights import InitialWeights, load_initial_weights
from rnn_lab.training.resume import find_resume_point
from rnn_lab.training.rollback import Rollback, excluded_batches, read_rollbacks
from rnn_lab.training.saved_run import SavedRun
from rnn_lab.training.spec import RunSpec, options_signature


class Start(NamedTuple):
    """Where a run begins: with its initial weights, or at a checkpoint."""

    weights: InitialWeights
    metadata: dict[str, Any]  # of last.ckpt
    resume_point: ResumePoint | None
    rollbacks: tuple[Rollback, ...]  # so far


def find_start(
    spec: RunSpec, hardware: Hardware, data: TextDataModule, saved: SavedRun | None
) -> Start:
    """Resume from the `saved` run; without one, load the initial weights."""
    recorded = recorded_weights(spec, saved)
    weights = recorded or load_initial_weights(spec.config, data)
    metadata = checkpoint_metadata(spec, hardware, data, weights)
    resumed, rollbacks = prepare_resume(spec, data, metadata, saved)
    if resumed is None and recorded is not None:  # of a checkpoint that cannot be resumed from
        weights = load_initial_weights(spec.config, data)
        metadata = checkpoint_metadata(spec, hardware, data, weights)
    return Start(weights, metadata, resumed, rollbacks)


def recorded_weights(spec: RunSpec, saved: SavedRun | None) -> InitialWeights | None:
    """Return what the `saved` run began with, without the weights.

    None: not known, or the options name another place, whose weights are read and compared.
    """
    config = spec.config
    if saved is None or not config.train or config.trainer.fast_dev_run:
        return None
    origins = (config.model.init_from, config.data.vectors, config.ckpt_path)
    if all(origin is None for origin in origins):
        return None  # nothing would be read
    if not saved.is_copy_for(spec) and _have_moved(config, saved):
        return None
    about = saved.initial_weights
    return None if about is None else InitialWeights(about, is_recorded=True)


def _have_moved(config: RunConfig, saved: SavedRun) -> bool:
    names = ["model.init_from", "data.vectors"]
    if config.data.vectors == SKIPGRAM:
        names.append("data.unlabelled")
    options = options_signature(config.model_dump(mode="json"))
    return any(options[name] != saved.signature.get(name) for name in names)


def checkpoint_metadata(
    spec: RunSpec, hardware: Hardware, data: TextDataModule, initial: InitialWeights
) -> dict[str, Any]:
    """Return what last.ckpt says of its run, to compare it with one that is to resume from it."""
    return {
        "signature": spec.signature(hardware, data) | initial.signature,
        "versions": versions() | {"commit": git_commit()},
        "initial_weights": {name: dict(about) for name, about in initial.about.items()},
    }


def prepare_resume(
    spec: RunSpec, data: TextDataModule, metadata: dict[str, Any], saved: SavedRun | None
) -> tuple[ResumePoint | None, tuple[Rollback, ...]]:
    """Let the training batches begin where the unfinished run in the folder stopped.

    Returns:
        The checkpoint to resume from, None for a run that starts over; and the rollbacks so far.
    """
    config = spec.config
    resume_point, rollbacks = None, spec.rollbacks
    if not config.train:
        return None, ()
    if not config.trainer.fast_dev_run:  # which saves nothing
        resume_point = find_resume_point(spec, metadata, saved)
        if resume_point is not None and saved is not None:
            rollbacks = rollbacks or read_rollbacks(saved.folder)
        elif spec.resume == "auto":
            rollbacks = rollbacks or read_rollbacks(spec.output_dir)
    data.exclude_batches(excluded_batches(rollbacks))
    if resume_point is not None:
        data.resume_at(resume_point.state["epoch"], resume_point.state["batch_idx"])
    return resume_point, rollbacks
