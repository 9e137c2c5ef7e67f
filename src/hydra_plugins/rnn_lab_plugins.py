"""The launchers `joblib`, `submitit_local` and `submitit_slurm`, and the sweeper `optuna`.

Hydra accepts them only from the package `hydra_plugins`, and imports this file in every command. So
the code that runs them is imported when a sweep begins. The options and their defaults are in
conf/hydra/launcher and conf/hydra/sweeper.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from rnn_lab.plugins import require_extra

JobOverrides = Sequence[Sequence[str]]


class _NotInstalled(Launcher):
    """The base of a launcher whose package is not installed."""

    def __init__(self, **options: Any) -> None:
        """Accept any options: Hydra would wrap an error that is raised here."""

    def setup(self, **_: Any) -> None:
        """Raise a ConfigError that names the extra to install."""
        require_extra("launchers", "hydra/launcher")


def _published(package: str, module: str, name: str) -> Any:
    """Return a launcher class of a published Hydra plugin, or its stand-in."""
    try:
        return getattr(import_module(f"hydra_plugins.{package}.{module}"), name)
    except ImportError:
        return _NotInstalled


_Joblib: Any = _published("hydra_joblib_launcher", "joblib_launcher", "JoblibLauncher")
_Local: Any = _published("hydra_submitit_launcher", "submitit_launcher", "LocalLauncher")
_Slurm: Any = _published("hydra_submitit_launcher", "submitit_launcher", "SlurmLauncher")


class JoblibLauncher(_Joblib):
    """Hydra's joblib launcher, except that a killed job does not end the other jobs."""

    def launch(self, job_overrides: JobOverrides, initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs; return their results in order."""
        from rnn_lab.sweeps.launchers import launch_joblib

        return launch_joblib(self, super().launch, job_overrides, initial_job_idx)


class LocalLauncher(_Local):
    """Hydra's submitit launcher for this machine, with `n_jobs` and without an error at a kill.

    Hydra's own starts all jobs at once and raises for the first that is killed.
    """

    def launch(self, job_overrides: JobOverrides, initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, `n_jobs` at a time; return their results in order."""
        from rnn_lab.sweeps.launchers import launch_local

        return launch_local(self, job_overrides, initial_job_idx)


class SlurmLauncher(_Slurm):
    """Hydra's submitit launcher for Slurm, for clusters without job accounting too.

    There Hydra's own waits for a cancelled job without end.
    """

    def launch(self, job_overrides: JobOverrides, initial_job_idx: int) -> list[JobReturn]:
        """Submit the jobs as one array; return their results in order."""
        from rnn_lab.sweeps.launchers import launch_slurm

        return launch_slurm(self, job_overrides, initial_job_idx)


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
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the search; return the JobReturns of each batch, as Hydra's own sweeper does."""
        require_extra("search", "hydra/sweeper=optuna", needs="optuna")
        from rnn_lab.sweeps.search.optuna_search import search

        return search(arguments, self.config, self.hydra_context.config_loader, self.launcher)


class RemoveStoredLauncherConfigs(SearchPathPlugin):
    """Removes the configs of the published launchers in favour of those in conf/hydra/launcher.

    Hydra would validate a file against a stored config of the same name, with a deprecation
    warning. It calls search path plugins after all plugins have stored their configs and before it
    composes.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the search path unchanged."""
        stored = ConfigStore.instance().repo["hydra"].get("launcher", {})
        for name in ("joblib", "submitit_local", "submitit_slurm"):
            stored.pop(f"{name}.yaml", None)
