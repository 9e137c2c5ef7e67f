"""Names in a sweep: the folder of a job, and the label of a run by what the sweep varies."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import get_valid_filename
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.errors import ConfigError
from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.training.config import parse_run_config
from rnn_lab.training.spec import SweepLabel, config_fingerprint

_DIGITS = 8  # of the fingerprint in a folder's name
_ALWAYS_NAMED = {"model", "data", "seed"}  # in the name of every run


def job_dir_name(config: DictConfig) -> str:
    """Return the name of a job's folder: `gru_seed1_3f9a2b1c`.

    The same composed config has the same folder, whatever command composed it: a sweep that was
    stopped resumes, and one that grows trains only what is new.
    """
    options = resolve_options(config)
    model = options.get("model")
    words = (model.get("name") if isinstance(model, dict) else model, f"seed{options.get('seed')}")
    name = "_".join(str(word) for word in words)
    return get_valid_filename(f"{name}_{job_fingerprint(options)[:_DIGITS]}")


def job_fingerprint(options: Mapping[str, Any]) -> str:
    """Return the fingerprint of a composed config, also of an impossible one.

    That has a folder too, in which its job fails with the reason.
    """
    try:
        return config_fingerprint(parse_run_config(options))
    except ConfigError:
        return config_fingerprint(options)


def resolve_options(config: DictConfig) -> dict[str, Any]:
    """Return the options of `config` without Hydra's; what cannot be resolved, as it is written."""
    options: dict[str, Any] = {}
    for key in map(str, config):
        if key == "hydra":
            continue
        try:
            value = config[key]
            is_group = isinstance(value, DictConfig | ListConfig)
            options[key] = OmegaConf.to_container(value, resolve=True) if is_group else value
        except OmegaConfBaseException:
            options[key] = str(OmegaConf.to_container(config)[key])  # type: ignore[call-overload, index]
    return options


def sweep_label(sweep: Path, overrides: Iterable[str], options: Mapping[str, Any]) -> SweepLabel:
    """Return the label of a job in the sweep of that folder.

    Args:
        sweep: its folder, in which multirun.yaml says what is swept.
        overrides: of the job.
        options: that the overrides compose.
    """
    swept = swept_options(sweep, overrides)
    return SweepLabel(sweep, sweep_run_name(swept), search_parameters(swept, options))


def swept_options(sweep: Path, overrides: Iterable[str]) -> dict[str, str]:
    """Return the options that the sweep varies, with their values in `overrides` of one job.

    They are those that the command, or the search space, gives several values.
    """
    path = sweep / "multirun.yaml"  # written by sweepers before the first job
    if not path.exists():
        return {}
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    parser = OverridesParser.create()
    given = parser.parse_overrides(raw_overrides(config.hydra))
    names = {override.key_or_group for override in given if override.is_sweep_override()}
    names |= {str(name) for name in config.hydra.sweeper.get("params") or {}}
    return {
        override.key_or_group: override.get_value_element_as_str().strip("'\"")
        for override in parser.parse_overrides(list(overrides))
        if override.key_or_group in names
    }


def sweep_run_name(swept: Mapping[str, str]) -> str:
    """Return what sets a run apart from the others: `lr=0.0031 hidden_size=64`."""
    return " ".join(
        f"{option.rpartition('.')[2]}={_rounded(value)}"
        for option, value in swept.items()
        if option not in _ALWAYS_NAMED
    )


def search_parameters(swept: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the swept options with their values in `options`; of a group, its choice."""
    found: dict[str, Any] = {}
    for name, choice in swept.items():
        value: Any = options
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found[name] = choice if isinstance(value, Mapping) or value is None else value
    return found


def _rounded(value: str) -> str:
    try:
        return value if value.lstrip("-").isdigit() else f"{float(value):.3g}"
    except ValueError:
        return value
