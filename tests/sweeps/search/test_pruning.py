"""A search of 30 trials on demo reviews with train.py itself: pruned, killed and resumed."""

import signal
import time
from pathlib import Path

import hydra
import lightning as L
import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from rnn_lab.data.datamodule import TextDataModule
from rnn_lab.models.lightning_module import build_classifier
from rnn_lab.sweeps.search.study import open_storage
from rnn_lab.training.callbacks import build_callbacks, find_callback
from rnn_lab.training.callbacks.monitors import ValidationHistory
from rnn_lab.training.config import RunConfig
from rnn_lab.training.hardware import resolve_hardware
from rnn_lab.training.spec import RunSpec
from rnn_lab.training.trainer import build_trainer
from rnn_lab.validation import validate
from tests.cli.forked import Started
from tests.cli.runner import PROJECT

TRIALS, EPOCHS = 30, 7
RUN = (
    *(
        "experiment=smoke",
        "trainer=cpu",
        "trainer.precision=32-true",
        f"trainer.max_epochs={EPOCHS}",
        "model=lstm",
    ),
    *("data.num_train=800", "data.batch_size=32", "data.max_vocab_size=300"),
    *("model.dropout=0", "model.word_dropout=0", "scheduler=constant"),
    *(
        "trainer.log_every_n_steps=50",
        "trainer.enable_progress_bar=false",
        "trainer.monitor=val/loss",
    ),
)
SEARCH = (
    *("hydra/sweeper=optuna", f"hydra.sweeper.n_trials={TRIALS}", "hydra.sweep.dir=sweep"),
    # Random, so that a search without pruning would have the same trials.
    *("hydra.sweeper.sampler.name=random", "hydra.sweeper.pruner.n_startup_trials=3"),
    *("optimizer.lr=tag(log,interval(0.0003,0.3))", "model.pooling=choice(mean,max)"),
)


def search(cwd: Path) -> Started:
    return Started("train.py", "-m", *RUN, *SEARCH, cwd=cwd, out=cwd / "said.txt")


def finished(folder: Path) -> int:
    return len([*folder.glob("*/result.json"), *folder.glob("*/pruned.json")])


def composed(*overrides: str) -> RunConfig:
    with hydra.initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = hydra.compose("train", overrides=[*RUN, *overrides])
    return validate(RunConfig, OmegaConf.to_container(config, resolve=True))


def train_without_pruning(config: RunConfig, data: TextDataModule, folder: Path) -> float:
    """Return the best validation loss of the run of `config` without pruning."""
    folder.mkdir()
    L.seed_everything(config.seed, workers=True, verbose=False)
    model = build_classifier(
        config.model, data.vocab_size, data.num_classes, config.optimizer, config.scheduler
    )
    callbacks = build_callbacks(RunSpec(config, folder))
    hardware = resolve_hardware(config.trainer)
    trainer = build_trainer(config.trainer, hardware, folder, [], callbacks)
    trainer.fit(model, datamodule=data)
    history = find_callback(trainer, ValidationHistory).by_epoch
    return min(metrics["val/loss"] for metrics in history.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_pruning_halves_the_epochs_and_finds_as_good_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "sweep"
    process = search(tmp_path)
    while finished(folder) < 8:
        assert process.poll() is None, process.said()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process = search(tmp_path)
    assert process.wait() == 0, process.said()

    study = optuna.load_study(
        study_name="sweep", storage=open_storage(str(folder / "study.journal"))
    )
    assert len(study.trials) == TRIALS
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    epochs = [len(trial.intermediate_values) for trial in study.trials]
    assert sum(epochs) <= TRIALS * EPOCHS / 2
    for trial in study.trials:
        files = {file.name for file in Path(trial.user_attrs["folder"]).iterdir()}
        if trial.state == TrialState.PRUNED:  # the test split is not read
            assert "pruned.json" in files and not {"result.json", "predictions.csv"} & files
        else:
            assert "result.json" in files and "pruned.json" not in files

    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    data = TextDataModule(composed().data, seed=1, allow_fallback=False)
    data.prepare_data()
    data.setup()
    missed = [
        train_without_pruning(
            composed(*t.user_attrs["overrides"]), data, tmp_path / f"whole{t.number}"
        )
        for t in pruned
    ]
    # The best run has the same metric, to the digit, without pruning.
    best = study.best_trial
    again = composed(*best.user_attrs["overrides"])
    assert train_without_pruning(again, data, tmp_path / "whole") == min(
        best.intermediate_values.values()
    )
    print(f"{sum(epochs)} of {TRIALS * EPOCHS} epochs; best val/loss {best.value:.4f}")
    print(f"{len(pruned)} pruned, whose best would have been {sorted(missed)[:5]}")
    assert best.value <= min(missed) + 0.02
    assert best.value < 0.5  # chance is 0.693
