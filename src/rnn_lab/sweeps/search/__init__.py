"""Searches with Optuna: hydra/sweeper=optuna."""

from typing import TYPE_CHECKING

from rnn_lab.training.spec import RunSpec

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback


def search_callbacks(spec: RunSpec) -> "list[Callback]":
    """Return the callbacks of a run that is a trial of a search; none for other runs."""
    if spec.config.trial.number is None:
        return []
    from rnn_lab.sweeps.search.pruning import Pruning

    return [Pruning(spec.config.trial, spec.output_dir)]
