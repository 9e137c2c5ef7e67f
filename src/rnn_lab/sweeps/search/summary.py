"""The output of a search: a line per trial, the best trial, and the importances of options."""

import os
import warnings
from collections import Counter
from pathlib import Path

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from rnn_lab.errors import sanitize
from rnn_lab.io.atomic import write_json

LONGEST = 1_000  # characters of what an untrusted study says of a trial
WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def print_trial(study: Study, number: int) -> None:
    """Print the outcome of a trial in one line."""
    trial = study.get_trials(deepcopy=False)[number]
    if trial.state == TrialState.COMPLETE:
        outcome = f"complete, {_values(study, trial)}"
    elif trial.state == TrialState.PRUNED:
        # A step is a number of epochs. Without one, the same job was pruned as an earlier trial.
        epochs = trial.last_step
        outcome = f"pruned after epoch {epochs - 1}" if epochs else "pruned before"
    else:
        outcome = f"{WORDS[trial.state]}: {_noted(trial, 'reason')}"
    print(f"trial {number}: {outcome}; {_overrides(trial)}", flush=True)


def print_search(study: Study, importances: dict[str, dict[str, float]]) -> None:
    """Print the number of trials by state, the best ones and their folders, and the importances."""
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
        folder = Path(_noted(trial, "folder"))
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
            sign = -1 if study.directions[i] == StudyDirection.MAXIMIZE else 1  # less is better
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of few trials, which `trials` says
                shares = get_param_importances(
                    study,
                    evaluator=PedAnovaImportanceEvaluator(),
                    target=lambda trial, i=i, sign=sign: sign * trial.values[i],
                    normalize=False,  # it would make them equal where nothing is known
                )
            if (whole := sum(shares.values())) > 0:
                importances[metric] = {option: share / whole for option, share in shares.items()}
    about = {"study": study.study_name, "evaluator": "PED-ANOVA", "trials": len(complete)}
    write_json(folder / "importances.json", about | {"importances": importances})
    return importances


def _values(study: Study, trial: FrozenTrial) -> str:
    metrics = study.user_attrs["directions"]
    return ", ".join(f"{f} {v:.4g}" for f, v in zip(metrics, trial.values or [], strict=False))


def _overrides(trial: FrozenTrial) -> str:
    return sanitize(" ".join(trial.user_attrs.get("overrides", [])), LONGEST)


def _noted(trial: FrozenTrial, name: str) -> str:
    return sanitize(str(trial.user_attrs.get(name, "")), LONGEST)
