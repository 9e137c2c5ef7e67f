"""The composed config of a run, as Hydra or its result.json has it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_lab.errors import CheckpointError, whole_message
from rnn_lab.io.atomic import read_text
from rnn_lab.runs.result_json import recorded_options
from rnn_lab.runs.run_folder import CONFIG_DIR
from rnn_lab.validation import flatten

RawConfig = dict[str, Any]  # dotted name -> a string, number, boolean, null or reference

ABSENT = "\N{EN DASH}"  # shown where a run does not have an option
SEED = "seed"
# Options that the machine of a run resolves.
MACHINE_OPTIONS = ("trainer.accelerator", "trainer.devices", "trainer.precision")
_COMPUTED = ("model.parameters", *MACHINE_OPTIONS)  # by the run, in a result.json
_MAX_REFERENCES = 8  # followed in a row; a longer chain is a cycle


def read_config(folder: Path) -> RawConfig:
    """Return the composed config of a job, flat: {"model.hidden_size": 128, "seed": 1, ...}.

    References such as `${seed}` are kept, so that an option which only repeats another does not
    vary. Nothing is resolved that reads the environment. {} without a config file.

    Raises:
        CheckpointError: the file exists and cannot be read.
    """
    path = folder / CONFIG_DIR / "config.yaml"
    if not path.exists():
        return {}
    try:
        config = _load_yaml(path)
    except Exception as error:  # YAML and OmegaConf have no common error
        raise CheckpointError(f"{path}: cannot be read ({whole_message(error)})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: contains no options")
    return _flat(config)


def _load_yaml(path: Path) -> Any:
    """Return the content of a YAML file of Hydra in plain types, references unresolved.

    Raises:
        CheckpointError: it contains an alias; a few lines of them can exhaust the memory.
    """
    import yaml
    from omegaconf import OmegaConf

    text = read_text(path)
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)):
        raise CheckpointError("contains an alias, which Hydra never writes")
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)


def config_from_result(result: Mapping[str, Any]) -> RawConfig:
    """Return the options in a run's result.json in the form of `read_config`."""
    options = _flat(recorded_options(result))
    config = {name: value for name, value in options.items() if name not in _COMPUTED}
    if config.get("data.split_seed") == config[SEED]:
        config["data.split_seed"] = "${seed}"
    return config


def chosen_options(result: Mapping[str, Any]) -> RawConfig:
    """Return the options in a run's result.json, in which none is `auto`."""
    return _flat(recorded_options(result))


def _flat(config: Mapping[Any, Any]) -> RawConfig:
    return {name: _plain(value) for name, value in flatten(config).items()}


def _plain(value: Any) -> Any:
    scalar = isinstance(value, str | int | float | None)
    return value if scalar else json.dumps(value, default=str)


def resolve(config: RawConfig, name: str) -> Any:
    """Return the value of an option, references followed; ABSENT if the run does not have it."""
    value = config.get(name, ABSENT)
    for _ in range(_MAX_REFERENCES):
        reference = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if reference is None or reference[1] not in config:
            break
        value = config[reference[1]]
    return value
