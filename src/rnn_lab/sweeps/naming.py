"""The label of a run in a sweep: what the sweep varies."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.runs.run_folder import SWEEP_FILE
from rnn_lab.training.spec import SweepLabel
from rnn_lab.validation import flatten

_ALWAYS_NAMED = {"model", "data", "seed"}  # in the name of every run


def sweep_label(sweep: Path, overrides: Iterable[str], options: Mapping[str, Any]) -> SweepLabel:
    """Return the label of a job in the sweep of that folder.

    Its name is what sets it apart from the other jobs: `lr=0.0031 hidden_size=64`. Its parameters
    are the swept options with their values in `options`, which `overrides` compose; of a group, its
    choice.
    """
    swept = _swept_options(sweep, overrides)
    found = flatten(options)
    name = " ".join(
        f"{option.rpartition('.')[2]}={_rounded(value)}"
        for option, value in swept.items()
        if option not in _ALWAYS_NAMED
    )
    parameters = {
        option: choice if found.get(option) is None else found[option]
        for option, choice in swept.items()
    }
    return SweepLabel(sweep, name, parameters)


def _swept_options(sweep: Path, overrides: Iterable[str]) -> dict[str, str]:
    """Return the options that the command, or the search space, gives several values.

    Their values are those in `overrides` of one job.
    """
    path = sweep / SWEEP_FILE
    if not path.exists():
        return {}
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    if "hydra" not in config:  # another process, which adds jobs, is replacing the file
        return {}
    parser = OverridesParser.create()
    given = parser.parse_overrides(raw_overrides(config.hydra))
    names = {override.key_or_group for override in given if override.is_sweep_override()}
    names |= {str(name) for name in config.hydra.sweeper.get("params") or {}}
    return {
        override.key_or_group: _shown(override)
        for override in parser.parse_overrides(list(overrides))
        if override.key_or_group in names
    }


def _shown(override: Override) -> str:
    value = override.value()
    return str(value) if isinstance(value, str) else override.get_value_element_as_str()


def _rounded(value: str) -> str:
    try:
        return value if value.lstrip("-").isdigit() else f"{float(value):.3g}"
    except ValueError:
        return value
