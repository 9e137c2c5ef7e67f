"""Pruning: a run that is a trial of a search reports its metric, and may be stopped early."""

import copy
import math
import sys
from pathlib import Path
from typing import Any

import lightning as L
import optuna
from lightning.pytorch.callbacks import Callback
from optuna.exceptions import OptunaError

from rnn_lab.errors import ConfigError
from rnn_lab.io.atomic import write_json
from rnn_lab.models.metric_table import MetricMode
from rnn_lab.runs.jobs import MONITORED
from rnn_lab.sweeps.search.study import build_pruner, open_storage
from rnn_lab.training.callbacks.best_checkpoint import BestCheckpoint
from rnn_lab.training.callbacks.monitors import ValidationHistory
from rnn_lab.training.config import TrialConfig
from rnn_lab.training.trainer import find_callback


class Pruning(Callback):
    """Report a metric of each epoch to the study; stop the run when the study's pruner decides so.

    A step of the study is a number of epochs, from 1, and its metric that of the epoch's last
    validation: earlier ones are not comparable with other runs. A run that repeats epochs, as with
    half the batch size once memory ran out, reports them again. A decision to stop, once made,
    holds also when the run is interrupted before it stops. A study that cannot be reached stops no
    run. Only the first of several processes talks to the study. A pruned run is not tested and
    leaves pruned.json in its folder.
    """

    state_key = "Pruning"

    def __init__(self, trial: TrialConfig, folder: Path) -> None:
        self.trial = trial
        self.folder = folder
        self.metric: str | None = None  # to report; None: the study has several objectives
        self.mode: MetricMode  # of the study: whether a smaller or a larger metric is better
        self.value = math.nan
        self.skip_test = False

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Look up the study.

        Raises:
            ConfigError: there is no such study or trial.
        """
        if stage != "fit" or not trainer.is_global_zero:
            return
        name, number = self.trial.study, self.trial.number
        assert name is not None and number is not None and self.trial.storage is not None
        try:
            storage = open_storage(self.trial.storage)
            self.study = optuna.load_study(study_name=name, storage=storage)
            self.storage = self.study._storage
            self.trial_id = self.storage.get_trial_id_from_study_id_trial_number(
                self.study._study_id, number
            )
        except KeyError:
            raise ConfigError(f"trial.study={name}: there is no trial {number} in it") from None
        self.pruner = build_pruner(self.study)
        (metric, direction), *others = self.study.user_attrs["directions"].items()
        self.mode = "min" if direction == "minimize" else "max"
        if not others and metric == MONITORED:
            metric = str(find_callback(trainer, BestCheckpoint).monitor)
        if not others and metric.startswith("val/"):
            self.metric = metric

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Report the epoch before its checkpoint is written, and stop if the pruner decides so.

        Raises:
            ConfigError: the run does not log the metric of the study.
        """
        if trainer.sanity_checking:
            return
        stop = False
        if self.metric is not None:
            if self.metric not in trainer.callback_metrics:
                logged = ", ".join(n for n in trainer.callback_metrics if n.startswith("val/"))
                raise ConfigError(
                    f"hydra.sweeper.directions: {self.metric}: is not logged by this run. Choose "
                    f"from: {logged}"
                )
            self.value = float(trainer.callback_metrics[self.metric])
            epochs = trainer.current_epoch + 1
            if _ends_epoch(trainer):
                try:
                    stop = self._report(epochs)
                except (OptunaError, OSError) as error:
                    print(f"study {self.trial.study}: {error}", file=sys.stderr)
            # The last epoch ends the run anyway, and so does early stopping.
            stop = stop and not trainer.should_stop and epochs != trainer.max_epochs
        if trainer.strategy.broadcast(stop):
            self.skip_test = trainer.should_stop = True

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write pruned.json for a stopped run.

        It holds the last epoch, the metric that decided, and the val/ metrics of the best epoch.
        """
        if not self.skip_test or not trainer.is_global_zero:
            return
        history = find_callback(trainer, ValidationHistory).by_step
        best, epochs = find_callback(trainer, BestCheckpoint), trainer.current_epoch
        # An epoch with NaN as the monitored metric is not selected, and perhaps none is a number.
        found = (best.epoch, best.step) if best.best_model_path else (epochs - 1, max(history))
        pruned = {
            "epoch": epochs - 1,
            "epochs": epochs,
            MONITORED: self.metric,
            "monitored_mode": self.mode,
            "value": self.value,
            "best_epoch": found[0],
        }
        write_json(self.folder / "pruned.json", pruned | history[found[1]])

    def state_dict(self) -> dict[str, Any]:
        """Return what last.ckpt holds: a pruned run that is killed is not tested when resumed."""
        return {"value": self.value, "pruned": self.skip_test}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a resumed run."""
        self.value, self.skip_test = state_dict["value"], state_dict["pruned"]

    def _report(self, epochs: int) -> bool:
        """Report `epochs` epochs; return whether the run is to stop after them."""
        trial = self.storage.get_trial(self.trial_id)
        if trial.state.is_finished():
            return False
        self.storage.set_trial_intermediate_value(self.trial_id, epochs, self.value)
        if "stop_after" in trial.user_attrs:
            return trial.user_attrs["stop_after"] == epochs
        trial = copy.copy(self.storage.get_trial(self.trial_id))
        # Optuna cannot remove the later epochs of an attempt before this one.
        reported = trial.intermediate_values.items()
        trial.intermediate_values = {step: value for step, value in reported if step <= epochs}
        stop = self.pruner.prune(self.study, trial)
        if stop:
            self.storage.set_trial_user_attr(self.trial_id, "stop_after", epochs)
        return stop


def _ends_epoch(trainer: L.Trainer) -> bool:
    """Return whether no validation of the epoch follows this one."""
    assert trainer.val_check_batch is not None  # None without trainer.check_val_every_n_epoch
    done = trainer.fit_loop.epoch_loop.batch_idx + 1
    return done + trainer.val_check_batch > trainer.num_training_batches
