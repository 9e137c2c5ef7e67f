"""The sweeper `hydra/sweeper=optuna`; conf/hydra/sweeper/optuna.yaml has its options.

Hydra accepts sweepers only from the package `hydra_plugins`, and imports this file in every
command. So Optuna is imported when a search begins.
"""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from rnn_lab.plugins import require_extra


class OptunaSweeper(Sweeper):
    """Lets Optuna choose the option values of each job."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(self, **options: Any) -> None:
        """Leave the validation of `options` to `sweep`: Hydra would wrap an error raised here."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store what `sweep` needs and create the launcher."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search; return the JobReturns of each batch, as Hydra's own sweeper does."""
        require_extra("search", "hydra/sweeper=optuna", needs="optuna")
        from rnn_lab.sweeps.search.optuna_search import search

        return search(
            arguments,
            config=self.config,
            loader=self.hydra_context.config_loader,
            launcher=self.launcher,
        )
