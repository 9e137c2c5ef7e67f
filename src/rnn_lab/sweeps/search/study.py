"""The study of a search: its storage, sampler and pruner."""

import itertools
import json
import math
import os
import random
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from rnn_lab.errors import ConfigError, first_line, sanitize
from rnn_lab.runs.result_json import diff_options, format_differences
from rnn_lab.runs.untrusted import get_group
from rnn_lab.sweeps.search.config import Direction, PrunerOptions, SamplerOptions, SearchOptions
from rnn_lab.sweeps.search.space import Space

LARGEST_GRID = 100_000
_CREATION_S = 10.0  # time for the worker that creates a study to write its attributes


class JournalFile(JournalFileBackend):
    """Optuna's journal, which a full disk does not corrupt.

    A line that a full disk cut off would form one unreadable line with the next one; it is removed
    before that is written. Nothing has read it: it has no end.
    """

    def __init__(self, path: Path) -> None:
        # The lock is a link to the journal: only an absolute one is recognised when it is stale.
        self.path = path.resolve()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = JournalFileSymlinkLock(str(self.path))
        super().__init__(str(self.path), self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries after the last complete line."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self.lock.acquire()
        try:
            with self.path.open("rb+") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(end - 1, 0))
                if end and file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
                    file.seek(0, os.SEEK_END)
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            self.lock.release()


def open_storage(storage: str) -> BaseStorage:
    """Open a journal file, or the database of a URL.

    Raises:
        ConfigError: it cannot be opened; says why, without the URL's password.
    """
    if "://" not in storage:
        return _open_journal(Path(storage))
    try:
        shown = make_url(storage).render_as_string()  # the password as ***
    except (ArgumentError, ValueError):
        raise ConfigError("hydra.sweeper.storage: not the URL of a database") from None
    waits = {"timeout": 60} if storage.startswith("sqlite") else {}
    try:
        return RDBStorage(storage, engine_kwargs={"connect_args": waits})
    except Exception as error:  # whatever the driver of that database raises
        reason = first_line(error)
        raise ConfigError(f"hydra.sweeper.storage={shown}: cannot be opened: {reason}") from None


def _open_journal(path: Path) -> BaseStorage:
    shown = f"hydra.sweeper.storage={path}"
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{shown}: not a file")  # a pipe would be waited for
        return JournalStorage(JournalFile(path))
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{shown}: {error.strerror}") from error
    except Exception as error:  # Optuna trusts the content, and fails anywhere in its reader
        reason = sanitize(str(error), 100) or type(error).__name__
        raise ConfigError(f"{shown}: not an Optuna journal, or a damaged one: {reason}") from None


def open_study(
    name: str,
    storage: BaseStorage,
    *,
    directions: dict[str, Direction],
    pruner: PrunerOptions,
    max_epochs: int | None,
    space: Space,
    options: Mapping[str, Any],
    varied: Collection[str] = (),
) -> Study:
    """Create the study of that name, or load it.

    Its user attributes hold what a job must know: the metrics to optimize, and the pruner; and the
    flat `options` of its jobs. They do not change, but for those searched and those that follow
    them, which are `varied`.

    Raises:
        ConfigError: that study has other directions, choices or options.
    """
    ways = list(directions.values())
    study = _create_or_load(name, storage, ways)
    other = f"study {name} exists and has other"
    its_own = study.user_attrs.get("directions", directions)
    its_ways = [direction.name.lower() for direction in study.directions]
    if its_own != directions or its_ways != ways:
        shown = sanitize(str(its_ways if its_own == directions else its_own))
        raise ConfigError(f"{other} directions: {shown}; take another sweep=")
    for trial, dim in itertools.product(study.get_trials(deepcopy=False), space.dimensions):
        if before := trial.distributions.get(dim.name):
            try:
                check_distribution_compatibility(before, dim.distribution)
            except ValueError:
                raise ConfigError(
                    f"{dim.key}: {other} values: {before}; take another sweep="
                ) from None
    began_with = get_group(study.user_attrs, "options") or options
    searched = {dim.name for dim in space.dimensions}
    for trial in study.get_trials(deepcopy=False):
        searched |= trial.params.keys()
    _check_options(began_with, options, searched.union(varied), other)
    attributes = {"directions": directions, "pruner": pruner.model_dump(), "max_epochs": max_epochs}
    attributes["options"] = dict(began_with)  # the last one: see _create_or_load
    for key, value in attributes.items():
        if study.user_attrs.get(key) != value:
            study.set_user_attr(key, value)
    study.pruner = build_pruner(study)
    return study


def _create_or_load(name: str, storage: BaseStorage, ways: list[Direction]) -> Study:
    """Create a study, or load it once its creator has written its attributes.

    A storage has no write that fails where an attribute exists, but of several workers exactly one
    creates a study. Attributes that it does not write in time are the caller's to write: it died,
    or was of an earlier version.
    """
    try:
        return optuna.create_study(study_name=name, storage=storage, directions=ways)
    except DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
    end = time.monotonic() + _CREATION_S
    while "options" not in study.user_attrs and time.monotonic() < end:
        time.sleep(0.05)
    return study


def _check_options(
    before: Mapping[str, Any], now: Mapping[str, Any], varied: Collection[str], other: str
) -> None:
    """Raise a ConfigError if options differ that are not `varied`, nor in a group that is."""
    differing = [
        found
        for found in diff_options(before, now)
        if not any(found[0] == one or found[0].startswith(f"{one}.") for one in varied)
    ]
    if differing:
        shown = sanitize(format_differences(differing, most=3), 1_000)
        raise ConfigError(f"{other} options: {shown}; take another sweep=")


def enqueue_trials(study: Study, space: Space, options: SearchOptions) -> int:
    """Enqueue trials until the study has `n_trials`; of a grid, each point once.

    Workers claim what is enqueued: however many they are, and however often they are stopped, there
    are not more trials. Returns their number, which a small grid limits.
    """
    trials = study.get_trials(deepcopy=False)
    missing = max(options.n_trials - len(trials), 0)
    if options.sampler.name != "grid":
        study.add_trials([create_trial(state=TrialState.WAITING) for _ in range(missing)])
        return options.n_trials
    choices = [dimension.points() for dimension in space.dimensions]
    size = math.prod(map(len, choices))
    if size > LARGEST_GRID:
        raise ConfigError(f"sampler.name=grid: {size} points are too many; narrow the space")
    names = [dimension.name for dimension in space.dimensions]
    points = [dict(zip(names, point, strict=True)) for point in itertools.product(*choices)]
    random.Random(options.sampler.seed or 0).shuffle(points)
    known = [trial.system_attrs.get("fixed_params") for trial in trials]
    for point in [point for point in points if point not in known][:missing]:
        study.enqueue_trial(point)
    return min(options.n_trials, size)


def build_sampler(options: SamplerOptions, number: int) -> BaseSampler:
    """Return the sampler of one trial.

    Each trial has its own seed: a resumed search tries what it would have tried, and two workers do
    not try the same. A grid needs no sampler: all its trials are enqueued.
    """
    seed = None
    if options.seed is not None:
        seed = int(np.random.SeedSequence([options.seed, number]).generate_state(1)[0])
    if options.name in ("random", "grid"):
        return RandomSampler(seed=seed)
    sampler = TPESampler if options.name == "tpe" else GPSampler
    return sampler(seed=seed, n_startup_trials=options.n_startup_trials)


def build_pruner(study: Study) -> BasePruner:
    """Return the pruner that the study's attributes describe; its steps are epochs, from 1."""
    options = PrunerOptions(**study.user_attrs["pruner"])
    if options.name == "median":
        return MedianPruner(
            n_startup_trials=options.n_startup_trials, n_warmup_steps=options.n_warmup_epochs
        )
    if options.name == "hyperband":
        max_epochs = study.user_attrs["max_epochs"]
        return HyperbandPruner(
            min_resource=options.n_warmup_epochs,
            max_resource="auto" if max_epochs in (None, -1) else max_epochs,
            reduction_factor=options.reduction_factor,
        )
    return NopPruner()
