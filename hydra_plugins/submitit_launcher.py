"""`hydra/launcher=submitit_local` and `=submitit_slurm`, for which see conf/hydra/launcher.

Hydra takes launchers from the package `hydra_plugins` alone. Every door imports this file, so
nothing slow is imported before a sweep begins.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher import submitit_launcher


class LocalLauncher(submitit_launcher.LocalLauncher):
    """Hydra's own starts all jobs at once and raises for the first that is killed."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs, `n_jobs` at a time; return what became of each, in their order."""
        from rnn_lab.sweeps.launchers.submitit_jobs import launch_local

        return launch_local(self, job_overrides, initial_job_idx)


class SlurmLauncher(submitit_launcher.SlurmLauncher):
    """Hydra's own waits for ever for a cancelled job where Slurm keeps no accounts."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit the jobs as one array; return what became of each, in their order."""
        from rnn_lab.sweeps.launchers.submitit_jobs import launch_slurm

        return launch_slurm(self, job_overrides, initial_job_idx)
