"""A search: Optuna chooses values, Hydra's launcher runs jobs, their folders have the results.

Its output is a line per trial, the best trials, and the importances of the options.
"""

import functools
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from rnn_lab.errors import CheckpointError, ConfigError, first_line, sanitize
from rnn_lab.io.atomic import atomic_write, write_json
from rnn_lab.models.metric_table import METRIC_OF_NAME, metric_mode
from rnn_lab.overrides import in_quotes, own_options, quote_override, shell_words
from rnn_lab.runs.jobs import MONITORED, job_file
from rnn_lab.runs.result_json import diff_options, read_object
from rnn_lab.runs.run_folder import SWEEP_FILE
from rnn_lab.sweeps.search.config import Direction, search_options
from rnn_lab.sweeps.search.space import Space, parse_space
from rnn_lab.sweeps.search.study import open_storage, open_study
from rnn_lab.sweeps.search.workers import CLAIM_LOCK, Worker
from rnn_lab.training.config import RunConfig, parse_run_config
from rnn_lab.training.job_dir import JobDir
from rnn_lab.training.spec import options_signature
from rnn_lab.validation import as_typed, unknown_choice_message

LONGEST = 1_000  # characters of what an untrusted study says of a trial
WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


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
    params = [f"{option}={as_typed(value)}" for option, value in options.params.items()]
    space = parse_space([*params, *arguments], OverridesParser.create(config_loader=loader))
    jobs_at_bounds = check_space(space, config, loader)
    job = jobs_at_bounds[0]
    directions = options.directions or default_directions(job)
    check_metrics(directions, job)

    folder = Path(config.hydra.sweep.dir)
    with atomic_write(folder / SWEEP_FILE) as file:
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
            options=_metric_options(job),
            varied=_varied_options(jobs_at_bounds),
        )
    # A reference to the environment is passed on as written, so that no password is saved.
    raw: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    if "${oc.env:" in str(raw["storage"]):
        where = raw["storage"]
    of_each = [quote_override("trial.study", study.study_name), f"trial.storage={in_quotes(where)}"]
    batches = []
    with Worker(study, space, options, folder) as worker:
        while trials := worker.claim(options.n_jobs):
            jobs = [
                [*space.overrides(trial.params), f"trial.number={trial.number}", *of_each]
                for trial in trials
            ]
            batches.append(launcher.launch(jobs, initial_job_idx=trials[0].number))
            for trial, returned in zip(trials, batches[-1], strict=True):
                record_trial(study, trial, returned, space)
    print_search(study, folder, write_importances(study, folder))
    return batches


def record_trial(study: Study, trial: Trial, job: JobReturn, space: Space) -> None:
    """Record the result of a trial in the study, and print it."""
    assert job.hydra_cfg is not None
    folder = Path(job.hydra_cfg.hydra.runtime.output_dir)
    state, values, reason = trial_outcome(JobDir(folder), list(study.user_attrs["directions"]))
    if state == TrialState.RUNNING and job.status == JobStatus.FAILED:  # that left no file
        # Private: the public property prints to stderr before it raises the error.
        # tests/test_hydra_private.py fails when this changes.
        state, reason = TrialState.FAIL, first_line(job._return_value)
        JobDir(folder).record_unstarted(job.overrides or [])
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


def trial_outcome(job: JobDir, metrics: list[str]) -> tuple[TrialState, list[float] | None, str]:
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
        if metric == MONITORED:  # the name of another one
            value = result.get(str(value))
        if type(value) not in (int, float) or not math.isfinite(value):
            return TrialState.FAIL, None, f"result.json has no number for {metric}"
        values.append(float(value))
    return TrialState.COMPLETE, values, ""


def check_space(space: Space, config: DictConfig, loader: ConfigLoader) -> list[DictConfig]:
    """Compose and return a job with each choice, and both ends of each interval.

    Raises:
        ConfigError, HydraException: one of them is no config, or holds an impossible value.
    """
    first = {d.name: d.bounds()[0] for d in space.dimensions}
    others = [first | {d.name: value} for d in space.dimensions for value in d.bounds()[1:]]
    jobs = []
    for values in (first, *others):
        job = loader.load_sweep_config(config, space.overrides(values))
        _run_config(job)
        jobs.append(job)
    return jobs


def default_directions(job: DictConfig) -> dict[str, Direction]:
    """Return the objective of a search without `directions`: what a composed job monitors.

    MONITORED is the metric that each run chooses once it has read its texts: of all that it may
    choose, a larger value is better.

    Raises:
        ConfigError: the job has no option trainer.monitor.
    """
    if config := _run_config(job):
        metric = config.known_monitor or MONITORED
    elif (metric := OmegaConf.select(job, "trainer.monitor")) is None:
        raise ConfigError("hydra.sweeper.directions: name the metrics of result.json to optimize")
    mode = metric_mode(metric, OmegaConf.select(job, "trainer.monitor_mode"))
    return {metric: "minimize" if mode == "min" else "maximize"}


def check_metrics(metrics: Iterable[str], job: DictConfig) -> None:
    """Raise a ConfigError if one of `metrics` is of validation, and of no run of any task.

    A callback of one's own may log others.
    """
    config = _run_config(job)
    if config is None or config.callbacks:
        return
    known = [f"val/{name}" for name in (*METRIC_OF_NAME, *config.metrics)]
    for metric in metrics:
        if metric.startswith("val/") and metric not in known:
            message = f"hydra.sweeper.directions: {metric}: no such metric"
            raise ConfigError(unknown_choice_message(message, metric, known))


def _run_config(job: DictConfig) -> RunConfig | None:
    """Return the options of a composed job, checked; None of another program's."""
    return parse_run_config(own_options(job)) if job.hydra.job.name == "train" else None


def _metric_options(job: DictConfig) -> dict[str, Any]:
    """Return the options of a composed job that decide its metrics; none of another program's."""
    config = _run_config(job)
    return {} if config is None else options_signature(config.model_dump(mode="json"))


def _varied_options(jobs: Sequence[DictConfig]) -> set[str]:
    """Return the options that differ between jobs: those searched, and those that follow them."""
    first, *others = map(_metric_options, jobs)
    return {name for other in others for name, _, _ in diff_options(first, other)}


def print_trial(study: Study, number: int) -> None:
    """Print the outcome of a trial in one line."""
    trial = study.get_trials(deepcopy=False)[number]
    if trial.state == TrialState.COMPLETE:
        outcome = f"complete, {_values(study, trial)}"
    elif trial.state == TrialState.PRUNED:
        epochs = trial.user_attrs.get("stop_after")  # None: as the same job of an earlier trial
        outcome = f"pruned after epoch {epochs - 1}" if isinstance(epochs, int) else "pruned before"
    else:
        outcome = f"{WORDS[trial.state]}: {_noted(trial, 'reason')}"
    print(f"trial {number}: {outcome}; {_overrides(trial)}", flush=True)


def print_search(study: Study, sweep: Path, importances: dict[str, dict[str, float]]) -> None:
    """Print the number of trials by state, the best ones and their folders, and the importances.

    A folder is looked for in that of the `sweep` where it has been moved with it.
    """
    trials = study.get_trials(deepcopy=False)
    counted = Counter(trial.state for trial in trials)
    states = ", ".join(f"{counted[s]} {word}" for s, word in WORDS.items() if counted[s])
    print(f"\nsearch {study.study_name}: {len(trials)} trials: {states}")
    if not counted[TrialState.COMPLETE]:
        return
    several = len(study.directions) > 1
    if several:
        print("best trials: a trial that is better in one metric is worse in another")
    for trial in study.best_trials if several else [study.best_trial]:
        noted = Path(_noted(trial, "folder"))
        moved = sweep.absolute() / noted.name
        folder = moved if moved.is_dir() else noted
        near = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else folder
        print(f"best trial {trial.number}: {_values(study, trial)}")
        print(f"  {_overrides(trial)}\n  {near}")
    for metric, of_options in importances.items():
        if shares := ", ".join(f"{option} {share:.0%}" for option, share in of_options.items()):
            print(f"importances for {metric}: {shares}")


def write_importances(study: Study, folder: Path) -> dict[str, dict[str, float]]:
    """Write importances.json into the sweep's folder, and return its `importances`.

    They are each option's share in what distinguishes the best tenth of the trials (PED-ANOVA,
    Watanabe et al. 2023, arXiv 2304.10255), between 0 and 1, 1 in all, by metric and option.
    Only complete trials count; where they are too few to distinguish options, there are none.
    """
    # Seconds where scikit-learn is installed: not before the search is over.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    importances: dict[str, dict[str, float]] = {}
    for i, metric in enumerate(study.user_attrs["directions"]):
        importances[metric] = {}
        if len(complete) > 1:
            maximize = study.directions[i] == StudyDirection.MAXIMIZE
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of few trials, which `trials` says
                shares = get_param_importances(
                    study,
                    evaluator=PedAnovaImportanceEvaluator(),
                    target=functools.partial(_loss, i, maximize),
                    normalize=False,  # it would make them equal where nothing is known
                )
            if (whole := sum(shares.values())) > 0:
                importances[metric] = {option: share / whole for option, share in shares.items()}
    about = {"study": study.study_name, "evaluator": "PED-ANOVA", "trials": len(complete)}
    write_json(folder / "importances.json", about | {"importances": importances})
    return importances


def _loss(i: int, maximize: bool, trial: FrozenTrial) -> float:
    """Return objective `i` of a trial, with the sign that makes less better."""
    return -trial.values[i] if maximize else trial.values[i]


def _values(study: Study, trial: FrozenTrial) -> str:
    metrics = study.user_attrs["directions"]
    return ", ".join(f"{f} {v:.4g}" for f, v in zip(metrics, trial.values or [], strict=False))


def _overrides(trial: FrozenTrial) -> str:
    return sanitize(shell_words(map(str, trial.user_attrs.get("overrides", []))), LONGEST)


def _noted(trial: FrozenTrial, name: str) -> str:
    return sanitize(str(trial.user_attrs.get(name, "")), LONGEST)
