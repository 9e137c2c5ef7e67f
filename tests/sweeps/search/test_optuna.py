"""hydra/sweeper=optuna in real processes: the trials, their workers, and the files."""

import json
import signal
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from rnn_lab.sweeps.search.study import open_storage
from tests.cli.forked import Started, run_warm_command
from tests.cli.runner import PROJECT
from tests.sweeps.bowl import main

SPACE = ("x=interval(-2,3)", "kind=bad,good")
OPTUNA = ("-m", f"hydra.searchpath=[{PROJECT / 'conf'}]", "hydra/sweeper=optuna")


@pytest.fixture
def search(tmp_path, monkeypatch, capsys):
    """Search in this process and return its output."""

    def run(*arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bowl.py", *OPTUNA, *arguments])
        main()
        return capsys.readouterr().out

    return run


def start(*arguments: str, cwd: Path) -> Started:
    """Start a search in another process."""
    return Started("tests/sweeps/bowl.py", *OPTUNA, *arguments, cwd=cwd, out=cwd / "said")


def study_in(folder: Path, storage: str = "study.journal") -> optuna.Study:
    storage = storage if "://" in storage else str(folder / storage)
    return optuna.load_study(study_name=folder.name, storage=open_storage(storage))


def wait_for(process: Started, folder: Path, results: int) -> None:
    """Wait until a search has so many results and works on the next trial."""
    for _ in range(3000):
        done = len(list(folder.glob("*/result.json")))
        begun = [file for file in folder.glob("*/done_by.txt") if file.stat().st_size]
        if done >= results and len(begun) > done:
            return
        assert process.poll() is None, process.printed()
        time.sleep(0.01)
    raise AssertionError("the search makes no progress")


@pytest.mark.slow
def test_killed_search_resumes_with_the_same_trials(tmp_path, search):
    wanted = (*SPACE, "hydra.sweeper.n_trials=12", "hydra.sweeper.sampler.n_startup_trials=5")
    said = search(*wanted, "hydra.sweep.dir=whole/bowl")
    whole = study_in(tmp_path / "whole" / "bowl")
    best = whole.best_trial
    assert best.value == min(trial.value for trial in whole.trials) < 0.5  # 0 in the middle
    assert f"best trial {best.number}: val/loss {best.value:.4g}" in said
    assert f"whole/bowl/{best.number}\n" in said
    assert " ".join(best.user_attrs["overrides"]) in said

    folder = tmp_path / "killed" / "bowl"
    killed = start(*wanted, "hydra.sweep.dir=killed/bowl", "seconds=0.2", cwd=tmp_path)
    wait_for(killed, folder, results=7)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    left = [trial.state for trial in study_in(folder).trials]
    assert left == 7 * [TrialState.COMPLETE] + [TrialState.RUNNING] + 4 * [TrialState.WAITING]
    search(*wanted, "hydra.sweep.dir=killed/bowl")
    resumed = study_in(folder)
    assert [trial.state for trial in resumed.trials] == 12 * [TrialState.COMPLETE]
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in whole.trials]
    # The trial that was running when killed was started twice, the others once.
    started = [len((folder / str(n) / "done_by.txt").read_text().splitlines()) for n in range(12)]
    assert started == 7 * [1] + [2] + 4 * [1]

    shares = json.loads((folder / "importances.json").read_text())
    assert shares["trials"] == 12
    assert set(shares["importances"]["val/loss"]) == {"x", "kind"}
    assert sum(shares["importances"]["val/loss"].values()) == pytest.approx(1)


def test_two_workers_share_a_database_and_a_failed_job_is_a_failed_trial(
    tmp_path, search, monkeypatch
):
    storage = f"sqlite:///{tmp_path}/studies.db"
    monkeypatch.setenv("STUDIES", storage)
    wanted = ("x=range(0,4)", "kind=good,bad", "too_large=2", "seconds=0.1")
    wanted += ("hydra.sweeper.sampler.name=grid", "hydra.sweeper.n_jobs=2")
    wanted += ("hydra.sweeper.storage='${oc.env:STUDIES}'",)
    other = start(*wanted, cwd=tmp_path)
    wait_for(other, tmp_path / "sweep", results=0)
    said = search(*wanted)
    assert other.wait() == 0, other.printed()
    said += other.printed()
    study = study_in(tmp_path / "sweep", storage)
    tried = sorted((trial.params["x"], trial.params["kind"]) for trial in study.trials)
    assert tried == [(x, kind) for x in range(4) for kind in ("bad", "good")]
    assert {t.params["x"] for t in study.trials if t.state == TrialState.FAIL} == {3}
    assert study.best_params == {"x": 1, "kind": "good"}
    assert said.count("failed: x=3 is too large") == 2
    by = [file.read_text() for file in (tmp_path / "sweep").glob("*/done_by.txt")]
    assert len(by) == 6 and {len(pids.splitlines()) for pids in by} == {1}
    assert len(set(by)) == 2  # both worked
    # The database's address, which may hold a password, is in no file but the database.
    for file in (tmp_path / "sweep").rglob("*"):
        assert file.is_dir() or storage not in file.read_text(), file

    assert "8 trials: 6 complete, 2 failed" in search(*wanted)
    assert len(study_in(tmp_path / "sweep", storage).trials) == 8


def test_best_trial_of_a_moved_search_is_named_where_it_is(tmp_path, search):
    wanted = ("x=choice(1,2)", "hydra.sweeper.n_trials=1")
    assert "  there/bowl/0\n" in search(*wanted, "hydra.sweep.dir=there/bowl")
    (tmp_path / "there").rename(tmp_path / "moved")
    assert "  moved/bowl/0\n" in search(*wanted, "hydra.sweep.dir=moved/bowl")


def test_several_objectives_give_the_pareto_front(tmp_path, search):
    said = search(
        *("x=range(-2,4)", "hydra.sweeper.sampler.name=grid", "hydra.sweeper.pruner.name=none"),
        "hydra.sweeper.directions={val/loss:minimize,timing.wall_time_s:minimize}",
    )
    study = study_in(tmp_path / "sweep")
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]
    assert sorted(trial.params["x"] for trial in study.best_trials) == [1, 2, 3]  # by hand
    assert said.count("best trial ") == 3
    assert "val/loss 0, timing.wall_time_s 2" in said


def test_search_with_other_options_than_its_study_is_refused_in_one_line(tmp_path):
    small = ("data.num_train=40", "data.num_test=20", "plots=false", "baseline=none")
    wanted = ("-m", "experiment=smoke", *small, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1")
    wanted += ("hydra.sweep.dir=seeds",)
    done = run_warm_command("train.py", *wanted, "seed=range(1,4)", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Not named: data.split_seed follows the searched seed, and plots decide no metric.
    other = ("seed=range(2,6)", "plots=true", "data.num_train=60")
    done = run_warm_command("train.py", *wanted, *other, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: study seeds exists and has other options: data.num_train=40 (saved), 60 "
        "(requested); take another sweep="
    )


def test_impossible_search_is_refused_in_one_line_before_any_run(tmp_path):
    search = ("-m", "hydra/sweeper=optuna", "model.dropout=interval(0,2)")
    done = run_warm_command("train.py", *search, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: model.dropout=2: input should be less than 1\n"
    assert not list(tmp_path.iterdir())
