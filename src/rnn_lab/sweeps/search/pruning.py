"""A run that is one trial of a search: it tells its figure each epoch, and may be stopped.

Every run imports this file, so Optuna is imported where a run is such a trial.
"""

import math
import sys
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from rnn_lab.errors import ConfigError
from rnn_lab.io.atomic import write_json
from rnn_lab.training.callbacks.monitors import ValidationHistory, find_callback
from rnn_lab.training.config import TrialConfig


class Pruning(Callback):
    """Reports a figure of each epoch to the study; ends the run when the study's pruner says so.

    A step of the study is a number of epochs, from 1. What was reported before the run was
    interrupted is not reported again, and a decision once made stands. A study that cannot be
    reached stops no run. Only the first of several processes talks to the study.
    """

    def __init__(self, trial: TrialConfig) -> None:
        self.trial = trial
        self.figure: str | None = None  # reported; None: several directions, none to go by
        self.value = math.nan
        self.stopped = False

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Look up the study.

        Raises:
            ConfigError: there is no such study or trial.
        """
        if stage != "fit" or not trainer.is_global_zero:
            return
        import optuna

        from rnn_lab.sweeps.search.study import build_pruner, open_storage

        name, number = self.trial.study, self.trial.number
        assert name is not None and number is not None and self.trial.storage is not None
        try:
            self.study = optuna.load_study(
                study_name=name, storage=open_storage(self.trial.storage)
            )
            self.storage = self.study._storage
            self.trial_id = self.storage.get_trial_id_from_study_id_trial_number(
                self.study._study_id, number
            )
        except KeyError:
            raise ConfigError(f"trial.study={name}: there is no trial {number} in it") from None
        self.pruner = build_pruner(self.study)
        figure, *others = self.study.user_attrs["directions"]
        if not others and figure.startswith("val/"):
            self.figure = figure

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Report the epoch before its checkpoint is written, and stop if that is decided."""
        stop = False
        if self.figure is not None:
            from optuna.exceptions import OptunaError

            self.value = float(trainer.callback_metrics[self.figure])
            epochs = trainer.current_epoch + 1
            try:
                stop = self._report(epochs)
            except (OptunaError, OSError) as error:
                print(f"study {self.trial.study}: {error}", file=sys.stderr)
            # The last epoch ends the run anyway, and so does lost patience.
            stop = stop and not trainer.should_stop and epochs != trainer.max_epochs
        if trainer.strategy.broadcast(stop):
            self.stopped = trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Go into last.ckpt: a run that was killed once it had been stopped is not tested later."""
        return {"value": self.value, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Come back from it."""
        self.value, self.stopped = state_dict["value"], state_dict["stopped"]

    def _report(self, epochs: int) -> bool:
        """Return whether the run is to stop after so many epochs."""
        trial = self.storage.get_trial(self.trial_id)
        if trial.state.is_finished():
            return False
        if epochs not in trial.intermediate_values:
            self.storage.set_trial_intermediate_value(self.trial_id, epochs, self.value)
            trial = self.storage.get_trial(self.trial_id)
        if epochs < (trial.last_step or 0) or "stop_after" in trial.user_attrs:
            return trial.user_attrs.get("stop_after") == epochs  # decided before an interruption
        stop = self.pruner.prune(self.study, trial)
        if stop:
            self.storage.set_trial_user_attr(self.trial_id, "stop_after", epochs)
        return stop


def search_callbacks(trial: TrialConfig) -> list[Callback]:
    """Return what a run needs to be a trial of a search; nothing, where it is none."""
    return [] if trial.number is None else [Pruning(trial)]


def record_pruned(trainer: L.Trainer, folder: Path) -> bool:
    """Return whether the search ended the run; if so, pruned.json is in its folder.

    It holds the last epoch, the figure it was judged by, and the val/ figures of its best epoch.
    """
    pruning = next((c for c in trainer.callbacks if isinstance(c, Pruning)), None)  # type: ignore[attr-defined]
    if pruning is None or not pruning.stopped:
        return False
    if trainer.is_global_zero:
        of_epoch = find_callback(trainer, ValidationHistory).of_epoch
        chooses = find_callback(trainer, ModelCheckpoint)
        better = max if chooses.mode == "max" else min
        best = better(of_epoch, key=lambda epoch: of_epoch[epoch][str(chooses.monitor)])
        last = max(of_epoch)
        told: dict[str, Any] = {
            "epoch": last,
            "epochs": last + 1,
            "monitored_metric": pruning.figure,
        }
        told |= {"value": pruning.value, "best_epoch": best, **of_epoch[best]}
        write_json(folder / "pruned.json", told)
    return True
