"""The defaults of the launchers are those of conf/hydra/launcher, each with its comment."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin


class LauncherFiles(SearchPathPlugin):
    """Removes what the published launchers store under the names of those files.

    Hydra would check a file against a stored config of its name, with a warning. It calls this when
    all plugins have stored theirs, before it composes.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Leave the path as it is."""
        stored = ConfigStore.instance().repo["hydra"]["launcher"]
        for name in ("joblib", "submitit_local", "submitit_slurm"):
            stored.pop(f"{name}.yaml", None)
