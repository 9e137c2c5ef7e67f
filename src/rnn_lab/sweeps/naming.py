"""What a sweep varies: the options that its command, or its search, gives several values."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from rnn_lab.io.secret_scan import raw_overrides

# Every run has these in its name.
_IN_THE_NAME = {"model", "data", "seed"}


def swept_options(sweep: Path, overrides: Iterable[str]) -> dict[str, str]:
    """Return the options that the sweep in that folder varies, with their values in `overrides`.

    `overrides` are those of one job. Where the folder does not tell, none are.
    """
    path = sweep / "multirun.yaml"  # what sweepers write before the first job begins
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


def sweep_run_name(name: str, varied: dict[str, str]) -> str:
    """Return a run's name with what sets it apart: `gru-imdb-seed1 lr=0.0031 hidden_size=64`."""
    return " ".join([name, *_short(varied)])


def search_parameters(varied: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Return the varied options with their values as `options` have them; of a group its choice."""
    found: dict[str, Any] = {}
    for name, choice in varied.items():
        value: Any = options
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found[name] = choice if isinstance(value, dict) or value is None else value
    return found


def _short(varied: dict[str, str]) -> list[str]:
    return [
        f"{option.rpartition('.')[2]}={_rounded(value)}"
        for option, value in varied.items()
        if option not in _IN_THE_NAME
    ]


def _rounded(value: str) -> str:
    try:
        return value if value.lstrip("-").isdigit() else f"{float(value):.3g}"
    except ValueError:
        return value
