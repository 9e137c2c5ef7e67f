"""A search: Optuna chooses values, Hydra's launcher runs jobs, their folders have the results."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.study import Study

from rnn_lab.errors import ConfigError
from rnn_lab.io.atomic import atomic_write
from rnn_lab.sweeps.search.config import Direction, SearchOptions, search_options
from rnn_lab.sweeps.search.space import Space, parse_space
from rnn_lab.sweeps.search.study import open_storage, open_study
from rnn_lab.sweeps.search.summary import print_search, print_trial, write_importances
from rnn_lab.sweeps.search.trial_results import folder_of, read_trial_result
from rnn_lab.sweeps.search.workers import CLAIM_LOCK, ClaimedTrial, Worker
from rnn_lab.training.config import parse_run_config


def search(
    arguments: Sequence[str], *, config: DictConfig, loader: ConfigLoader, launcher: Launcher
) -> list[Sequence[JobReturn]]:
    """Run trials until the study has `n_trials`; return the JobReturns of each batch.

    `arguments` are the overrides of the command line, `config` the sweep's composed config.

    Raises:
        ConfigError, HydraException: a mistake in the options or the space; before any job.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)
    options = search_options(config.hydra.sweeper)
    params = [f"{option}={_text(value)}" for option, value in options.params.items()]
    space = parse_space([*params, *arguments], OverridesParser.create(config_loader=loader))
    job = check_space(space, config, loader)
    directions = options.directions or _monitor(job)

    folder = Path(config.hydra.sweep.dir)
    with atomic_write(folder / "multirun.yaml") as file:
        file.write(OmegaConf.to_yaml(config))
    where = options.storage or str(folder / "study.journal")
    where = where if "://" in where else str(Path(where).resolve())
    with FileLock(folder / CLAIM_LOCK):  # of several workers, one creates the tables
        study = open_study(
            options.study_name or folder.resolve().name,
            open_storage(where),
            directions=directions,
            pruner=options.pruner,
            max_epochs=OmegaConf.select(job, "trainer.max_epochs"),
            space=space,
        )
    of_each = [f"trial.study={_quoted(study.study_name)}"]
    of_each.append(f"trial.storage={_quoted(_secret_storage(config) or where)}")
    worker = Worker(study, folder, n_trials=options.n_trials, timeout=options.worker_timeout)
    with worker:
        worker.enqueue(space, options.sampler)
        batches = run_trials(worker, space, options, launcher, of_each)
    print_search(study, write_importances(study, folder))
    return batches


def run_trials(
    worker: Worker, space: Space, options: SearchOptions, launcher: Launcher, of_each: list[str]
) -> list[Sequence[JobReturn]]:
    """Claim trials, run them and record their results until none is left for `worker`."""
    batches = []
    while claimed := worker.claim(options.n_jobs, space, options.sampler):
        jobs = [
            [*space.overrides(trial.values), f"trial.number={trial.number}", *of_each]
            for trial in claimed
        ]
        batches.append(launcher.launch(jobs, initial_job_idx=claimed[0].number))
        for trial, job in zip(claimed, batches[-1], strict=True):
            record_trial(worker.study, trial, job, space)
    return batches


def record_trial(study: Study, trial: ClaimedTrial, job: JobReturn, space: Space) -> None:
    """Record the result of a trial in the study, and print it."""
    outcome = read_trial_result(job, list(study.user_attrs["directions"]))
    overrides = [d.override(trial.values[d.name]) for d in space.dimensions]
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, trial.number)
    notes = {"folder": str(folder_of(job)), "overrides": overrides, "reason": outcome.reason}
    try:
        for key, value in notes.items():
            study._storage.set_trial_user_attr(trial_id, key, value)
        if outcome.state.is_finished():
            study.tell(trial.number, values=outcome.values, state=outcome.state)
    except UpdateFinishedTrialError:
        pass  # another worker considered this one dead and finished the trial: the same job
    print_trial(study, trial.number)


def check_space(space: Space, config: DictConfig, loader: ConfigLoader) -> DictConfig:
    """Compose a job with each choice, and both ends of each interval; return the first.

    Raises:
        ConfigError, HydraException: one of them is no config, or holds an impossible value.
    """
    first = {d.name: d.bounds()[0] for d in space.dimensions}
    tried = [first]
    tried += [first | {d.name: value} for d in space.dimensions for value in d.bounds()[1:]]
    jobs = []
    for values in tried:
        job = loader.load_sweep_config(config, space.overrides(values))
        if job.hydra.job.name == "train":
            own = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
            options = OmegaConf.to_container(own, resolve=True)
            assert isinstance(options, dict)
            parse_run_config({str(key): value for key, value in options.items()})
        jobs.append(job)
    return jobs[0]


def _monitor(job: DictConfig) -> dict[str, Direction]:
    metric = OmegaConf.select(job, "trainer.monitor")
    if metric is None:
        raise ConfigError("hydra.sweeper.directions: name the metrics of result.json to optimize")
    return {metric: "minimize" if metric.endswith(("loss", "error")) else "maximize"}


def _text(value: Any) -> str:
    """Return a plain value of the YAML in override syntax."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value)


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


def _secret_storage(config: DictConfig) -> str | None:
    """Return a storage that refers to the environment as written, so no password is saved."""
    sweeper = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    assert isinstance(sweeper, dict)
    given = sweeper["storage"]
    return given if given and "${oc.env:" in given else None
