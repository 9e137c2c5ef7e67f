"""The launchers `hydra/launcher=joblib`, `submitit_local` and `submitit_slurm`.

Hydra accepts launchers only from the package `hydra_plugins`, and imports this file in every
command. So the code that runs the jobs is imported when a sweep begins. The options and their
defaults are in conf/hydra/launcher.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin

from rnn_lab.plugins import require_extra


class _NotInstalled(Launcher):
    """Stands in for a launcher whose package is not installed."""

    def __init__(self, **options: Any) -> None:
        """Accept any options: Hydra would wrap an error that is raised here."""

    def setup(self, **_: Any) -> None:
        """Raise a ConfigError that names the extra to install."""
        require_extra("launchers", "hydra/launcher")

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Is not reached, because `setup` raises."""
        raise NotImplementedError


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

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs; return their results in order."""
        from rnn_lab.sweeps.launchers.joblib_jobs import launch

        return launch(self, super().launch, job_overrides, initial_job_idx)


class LocalLauncher(_Local):
    """Hydra's submitit launcher for this machine, with `n_jobs` and without an error at a kill.

    Hydra's own starts all jobs at once and raises for the first that is killed.
    """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs, `n_jobs` at a time; return their results in order."""
        from rnn_lab.sweeps.launchers.submitit_jobs import launch_local

        return launch_local(self, job_overrides, initial_job_idx)


class SlurmLauncher(_Slurm):
    """Hydra's submitit launcher for Slurm, for clusters without job accounting too.

    There Hydra's own waits for a cancelled job without end.
    """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit the jobs as one array; return their results in order."""
        from rnn_lab.sweeps.launchers.submitit_jobs import launch_slurm

        return launch_slurm(self, job_overrides, initial_job_idx)


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
