"""`hydra/launcher=joblib`: Hydra takes launchers from the package `hydra_plugins` alone.

Every door imports this file, so nothing slow is imported before a sweep begins.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_joblib_launcher import joblib_launcher


class JoblibLauncher(joblib_launcher.JoblibLauncher):
    """Hydra's own, which ends every job when one is killed; here the others go on."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs; return what became of each, in their order."""
        from rnn_lab.sweeps.launchers.joblib_jobs import launch

        return launch(self, super().launch, job_overrides, initial_job_idx)
