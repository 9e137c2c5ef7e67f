"""What a search says: a line a trial, the best at the end, and what mattered."""

import functools
import json
import os
import warnings
from collections import Counter
from pathlib import Path

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from rnn_lab.errors import sanitize
from rnn_lab.io.atomic import atomic_write

LONGEST = 1_000  # characters of what a study, which may be a stranger's, says of a trial
WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def print_trial(study: Study, number: int) -> None:
    """Say in one line what became of a trial."""
    trial = study.get_trials(deepcopy=False)[number]
    if trial.state == TrialState.COMPLETE:
        came = f"complete, {_values(study, trial)}"
    elif trial.state == TrialState.PRUNED:
        # A step is a number of epochs. Without one, the same job was pruned as an earlier trial.
        came = f"pruned after epoch {trial.last_step - 1}" if trial.last_step else "pruned before"
    else:
        came = f"{WORDS[trial.state]}: {_noted(trial, 'reason')}"
    print(f"trial {number}: {came}; {_overrides(trial)}", flush=True)


def print_search(study: Study, importances: dict[str, dict[str, float]]) -> None:
    """Say how many trials came to what, which were best and where they lie, and what mattered."""
    trials = study.get_trials(deepcopy=False)
    counted = Counter(trial.state for trial in trials)
    states = ", ".join(f"{counted[s]} {word}" for s, word in WORDS.items() if counted[s])
    print(f"\nsearch {study.study_name}: {len(trials)} trials: {states}")
    if not counted[TrialState.COMPLETE]:
        return
    several = len(study.directions) > 1
    best = study.best_trials if several else [study.best_trial]
    if several:
        print("best trials: whatever beats one of them in one figure is worse in another")
    for trial in best:
        print(f"best trial {trial.number}: {_values(study, trial)}")
        print(f"  {_overrides(trial)}")
        print(f"  {_near(Path(_noted(trial, 'folder')))}")
    for figure, of_options in importances.items():
        shares = ", ".join(f"{option} {share:.0%}" for option, share in of_options.items())
        if shares:
            print(f"what {figure} depends on: {shares}")


def write_importances(study: Study, folder: Path) -> dict[str, dict[str, float]]:
    """Write importances.json into the sweep's folder, and return its `importances`.

    They are each option's share in what sets the best tenth of the trials apart (PED-ANOVA,
    Watanabe et al. 2023, arXiv 2304.10255), between 0 and 1, 1 in all, by figure and option.
    Complete trials alone count; where they are too few to tell options apart, there are none.
    """
    # Seconds where scikit-learn is installed: not before the search is over.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    importances: dict[str, dict[str, float]] = {}
    for i, figure in enumerate(study.user_attrs["directions"]):
        maximize = study.directions[i] == StudyDirection.MAXIMIZE
        importances[figure] = {}
        if len(complete) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of few trials, which `trials` says
                shares = get_param_importances(
                    study,
                    evaluator=PedAnovaImportanceEvaluator(),
                    target=functools.partial(_loss, i, maximize),
                    normalize=False,  # it would make them equal where nothing is known
                )
            if whole := sum(shares.values()):
                importances[figure] = {option: share / whole for option, share in shares.items()}
    told = {
        "study": study.study_name,
        "evaluator": "PED-ANOVA",
        "trials": len(complete),
        "importances": importances,
    }
    with atomic_write(folder / "importances.json") as file:
        json.dump(told, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return importances


def _loss(i: int, maximize: bool, trial: FrozenTrial) -> float:
    """Return objective `i` of a trial, turned so that less is better."""
    return -trial.values[i] if maximize else trial.values[i]


def _values(study: Study, trial: FrozenTrial) -> str:
    figures = study.user_attrs["directions"]
    return ", ".join(f"{f} {v:.4g}" for f, v in zip(figures, trial.values or [], strict=False))


def _overrides(trial: FrozenTrial) -> str:
    return sanitize(" ".join(trial.user_attrs.get("overrides", [])), LONGEST)


def _noted(trial: FrozenTrial, name: str) -> str:
    return sanitize(str(trial.user_attrs.get(name, "")), LONGEST)


def _near(folder: Path) -> str:
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
