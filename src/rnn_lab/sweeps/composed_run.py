"""The run that Hydra composed, alone or as a job of a sweep or search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.sweeps.naming import sweep_label
from rnn_lab.training.config import parse_run_config
from rnn_lab.training.spec import RunSpec

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback


def composed_run(options: Mapping[str, Any]) -> RunSpec:
    """Return the run of conf/train.yaml, composed into `options`, in the folder Hydra made for it.

    Raises:
        ConfigError: an option is unknown or impossible.
    """
    hydra = HydraConfig.get()
    overrides = raw_overrides(hydra)
    is_multirun = hydra.mode == RunMode.MULTIRUN
    return RunSpec(
        config=parse_run_config(options),
        output_dir=Path(hydra.runtime.output_dir),
        raw_overrides=tuple(overrides),
        hydra_arguments=tuple(_hydra_arguments(hydra)),
        sweep=sweep_label(Path(hydra.sweep.dir), overrides, options) if is_multirun else None,
        shares_terminal=hydra.runtime.choices.get("hydra/launcher") == "joblib",
        make_callbacks=_search_callbacks,
    )


def _hydra_arguments(hydra: Any) -> list[str]:
    """Return the arguments for Hydra itself that the same run in the same folder needs."""
    dirs = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    given: Any = OmegaConf.to_container(hydra.overrides.hydra, resolve=False)
    dropped = ("hydra.run.dir=", "hydra.mode=")
    return [
        *(f"--config-dir={folder}" for folder in dirs),
        *(str(override) for override in given if not override.startswith(dropped)),
    ]


def _search_callbacks(spec: RunSpec) -> list[Callback]:
    """Return the callbacks of a run that is a trial of a search; none for other runs."""
    if spec.config.trial.number is None:
        return []
    from rnn_lab.sweeps.search.pruning import Pruning

    return [Pruning(spec.config.trial, spec.output_dir)]
