"""A search: Optuna chooses values, Hydra's launcher runs jobs, their folders have the results."""

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import Trial, TrialState

from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.job_files import job_file
from rnn_lab.reports.run_files import read_object
from rnn_lab.sweeps.job import JobDir
from rnn_lab.sweeps.search.config import Direction, search_options
from rnn_lab.sweeps.search.space import Space, parse_space
from rnn_lab.sweeps.search.study import open_storage, open_study
from rnn_lab.sweeps.search.summary import print_search, print_trial, write_importances
from rnn_lab.sweeps.search.workers import CLAIM_LOCK, Worker
from rnn_lab.training.config import parse_run_config


def search(
    arguments: Sequence[str], config: DictConfig, loader: ConfigLoader, launcher: Launcher
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
    # A reference to the environment is passed on as written, so that no password is saved.
    raw: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    if "${oc.env:" in str(raw["storage"]):
        where = raw["storage"]
    of_each = [f"trial.study={_quoted(study.study_name)}", f"trial.storage={_quoted(where)}"]
    batches = []
    with Worker(study, space, options, folder) as worker:
        while trials := worker.claim(options.n_jobs):
            jobs = [
                [*space.overrides(trial.params), f"trial.number={trial.number}", *of_each]
                for trial in trials
            ]
            batches.append(launcher.launch(jobs, initial_job_idx=trials[0].number))
            for trial, job in zip(trials, batches[-1], strict=True):
                record_trial(study, trial, job, space)
    print_search(study, write_importances(study, folder))
    return batches


def record_trial(study: Study, trial: Trial, job: JobReturn, space: Space) -> None:
    """Record the result of a trial in the study, and print it."""
    assert job.hydra_cfg is not None
    folder = Path(job.hydra_cfg.hydra.runtime.output_dir)
    state, values, reason = read_result(JobDir(folder), list(study.user_attrs["directions"]))
    if state == TrialState.RUNNING and job.status == JobStatus.FAILED:  # that left no file
        state, reason = TrialState.FAIL, str(job._return_value).partition("\n")[0]
    try:
        trial.set_user_attr("folder", str(folder))
        overrides = [d.override(trial.params[d.name]) for d in space.dimensions]
        trial.set_user_attr("overrides", overrides)
        trial.set_user_attr("reason", reason)
        if state.is_finished():
            study.tell(trial.number, values=values, state=state)
    except UpdateFinishedTrialError:
        pass  # another worker considered this one dead and finished the trial: the same job
    print_trial(study, trial.number)


def read_result(job: JobDir, metrics: list[str]) -> tuple[TrialState, list[float] | None, str]:
    """Return the state of a trial, the values of `metrics` of a complete one, and the reason."""
    status = job.status
    if status == "pruned":
        return TrialState.PRUNED, None, ""
    if status == "failed":
        return TrialState.FAIL, None, str(job.read("failure").get("error", ""))
    if status != "finished":
        return TrialState.RUNNING, None, "the same command resumes it"
    try:
        result = read_object(job_file(job.path, "result"))
    except CheckpointError as error:
        return TrialState.FAIL, None, str(error)
    values = []
    for metric in metrics:
        value: Any = result  # `timing.wall_time_s` is under `timing`; `val/accuracy` is on top
        for part in [metric] if metric in result else metric.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if type(value) not in (int, float) or not math.isfinite(value):
            return TrialState.FAIL, None, f"result.json has no number for {metric}"
        values.append(float(value))
    return TrialState.COMPLETE, values, ""


def check_space(space: Space, config: DictConfig, loader: ConfigLoader) -> DictConfig:
    """Compose a job with each choice, and both ends of each interval; return the first.

    Raises:
        ConfigError, HydraException: one of them is no config, or holds an impossible value.
    """
    first = {d.name: d.bounds()[0] for d in space.dimensions}
    others = [first | {d.name: value} for d in space.dimensions for value in d.bounds()[1:]]
    jobs = []
    for values in (first, *others):
        job = loader.load_sweep_config(config, space.overrides(values))
        if job.hydra.job.name == "train":
            own = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
            options: Any = OmegaConf.to_container(own, resolve=True)
            parse_run_config(options)
        jobs.append(job)
    return jobs[0]


def _monitor(job: DictConfig) -> dict[str, Direction]:
    metric = OmegaConf.select(job, "trainer.monitor")
    if metric is None:
        raise ConfigError("hydra.sweeper.directions: name the metrics of result.json to optimize")
    return {metric: "minimize" if metric.endswith(("loss", "error")) else "maximize"}


def _text(value: Any) -> str:
    """Return a plain value of the YAML in override syntax."""
    is_plain = value is None or isinstance(value, bool)
    return json.dumps(value) if is_plain else str(value)


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()
