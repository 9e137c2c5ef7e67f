"""What pruning saves and loses: on recorded learning curves, and in a search with train.py."""

import json
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from rnn_lab.sweeps.search.study import open_storage
from tests.cli.forked import Started
from tests.sweeps.search.curves import CURVES, EPOCHS, RUN, SPACE, TRIALS, val_losses
from tests.sweeps.search.test_study import study_of, train

SMALL = ("data.num_train=200", "trainer.max_epochs=3", "plots=false")
SEARCH = (
    *("hydra/sweeper=optuna", "hydra.sweeper.n_trials=8", "hydra.sweep.dir=sweep"),
    # Random, so that a search without pruning would have the same trials.
    *("hydra.sweeper.sampler.name=random", "hydra.sweeper.pruner.n_startup_trials=3"),
    *SPACE,
)


@pytest.mark.filterwarnings("ignore")
def test_pruning_halves_the_epochs_and_finds_as_good_a_run(tmp_path):
    """In a search of 30 trials, whose learning curves without pruning are known."""
    curves = [curve["val/loss"] for curve in json.loads(CURVES.read_text())]
    assert [len(curve) for curve in curves] == [EPOCHS] * TRIALS
    path = tmp_path / "study.journal"
    study = study_of(path, name="median", n_startup_trials=3)
    pruned = []
    for number, losses in enumerate(curves):
        study.ask()
        trial = {"study": "s", "storage": str(path), "number": number}
        pruned.append(train(tmp_path / str(number), losses, trial))
        if pruned[-1]:
            study.tell(number, state=TrialState.PRUNED)
        else:
            study.tell(number, min(losses))

    epochs = [len(trial.intermediate_values) for trial in study.trials]
    assert sum(epochs) <= TRIALS * EPOCHS / 2
    missed = [min(curve) for curve, stopped in zip(curves, pruned, strict=True) if stopped]
    assert study.best_value <= min(missed) + 0.02
    assert study.best_value < 0.5  # chance is 0.693


def search(cwd: Path) -> Started:
    return Started("train.py", "-m", *RUN, *SMALL, *SEARCH, cwd=cwd, out=cwd / "said.txt")


def finished(folder: Path) -> int:
    return len([*folder.glob("*/result.json"), *folder.glob("*/pruned.json")])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_search_that_is_killed_resumes_and_pruned_runs_are_not_tested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "sweep"
    process = search(tmp_path)
    while finished(folder) < 4:
        assert process.poll() is None, process.printed()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = search(tmp_path)
    assert process.wait() == 0, process.printed()

    study = optuna.load_study(
        study_name="sweep", storage=open_storage(str(folder / "study.journal"))
    )
    assert len(study.trials) == 8
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in study.trials:
        files = {file.name for file in Path(trial.user_attrs["folder"]).iterdir()}
        if trial.state == TrialState.PRUNED:  # the test split is not read
            assert "pruned.json" in files and not {"result.json", "predictions.csv"} & files
        else:
            assert "result.json" in files and "pruned.json" not in files

    # The best run has the same metric, to the digit, without pruning.
    best = study.best_trial
    (tmp_path / "whole").mkdir()
    losses = val_losses(*SMALL, *best.user_attrs["overrides"], folder=tmp_path / "whole")
    assert min(losses) == min(best.intermediate_values.values()) == best.value
