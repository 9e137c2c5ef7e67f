"""`hydra/sweeper=optuna`: Hydra takes sweepers from the package `hydra_plugins` alone.

Every door imports this file, so nothing slow is imported before a search begins.
"""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Lets Optuna choose the values of each job; see conf/hydra/sweeper/optuna.yaml."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(self, **options: Any) -> None:
        """Leave the check of `options` to `sweep`: Hydra would wrap its error here."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `sweep` needs."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search; return the JobReturns of each batch, as Hydra's own sweeper does."""
        from rnn_lab.sweeps.search.optuna_search import search

        return search(
            arguments,
            config=self.config,
            loader=self.hydra_context.config_loader,
            launcher=self.launcher,
        )
