"""Find the options that vary between the jobs of a sweep, from their composed configs."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_lab.errors import CheckpointError, whole_message
from rnn_lab.io.atomic import read_text
from rnn_lab.runs.result_json import option_key, recorded_options
from rnn_lab.runs.run_folder import CONFIG_DIR
from rnn_lab.validation import FINGERPRINT_EXCLUDED, flatten

RawConfig = dict[str, Any]  # dotted name -> a string, number, boolean, null or reference

ABSENT = "\N{EN DASH}"  # shown where a run does not have an option
SEED, FOLD, FOLDS = "seed", "data.fold", "data.folds"
REPEATS = (FOLD, SEED)  # runs that differ in these alone repeat one configuration
# The options that decide which others their group has, such as model.name and data.source.
_SELECTORS = ("name", "source", "_target_")
_MAX_REFERENCES = 8  # followed in a row; a longer chain is a cycle
# Options that the machine of a run resolves.
MACHINE_OPTIONS = ("trainer.accelerator", "trainer.devices", "trainer.precision")
_COMPUTED = ("model.parameters", *MACHINE_OPTIONS)  # by the run, in a result.json


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


def swept_options(configs: Sequence[RawConfig]) -> list[str]:
    """Return the options that vary, in the order of the config, REPEATS last.

    They have two values or more, or some runs have them and others do not. Runs of another model or
    data source are ignored for the latter: only an LSTM has a forget bias.
    """
    values: dict[str, set[tuple[str, Any]]] = {}
    for config in configs:
        for name, value in config.items():
            if _decides_result(name):
                values.setdefault(name, set()).add(option_key(value))
    known = [config for config in configs if config]
    varied = [n for n, found in values.items() if len(found) > 1 or _is_partly_absent(n, known)]
    return sorted(varied, key=lambda name: REPEATS.index(name) if name in REPEATS else -1)


def _is_partly_absent(name: str, configs: Sequence[RawConfig]) -> bool:
    """Return whether, of runs with equal selectors, some have the option and others do not."""
    parts = name.split(".")
    # A selector is not explained by others of its own group, nor they by it.
    depth = len(parts) - (parts[-1] in _SELECTORS)
    groups = [".".join(parts[:i]) for i in range(1, depth)]
    selectors = [f"{group}.{selector}" for group in groups for selector in _SELECTORS]
    without = {group_key(config, selectors) for config in configs if name not in config}
    return bool(without) and any(
        name in config and group_key(config, selectors) in without for config in configs
    )


def _decides_result(name: str) -> bool:
    group, option = name.partition(".")[0], ".".join(name.split(".")[:2])
    return group != "hydra" and not {group, option} & FINGERPRINT_EXCLUDED


def group_key(config: RawConfig, varied: Sequence[str]) -> tuple[Any, ...]:
    """Return what the runs of one group share: the varied options without REPEATS."""
    return tuple(option_key(config.get(name, ABSENT)) for name in varied if name not in REPEATS)


def short_names(varied: Sequence[str]) -> dict[str, str]:
    """Return the column name of each option: "lr" for optimizer.lr, "model" for model.name.

    A `_target_` has the name of its object. Ambiguous ones keep their full name.
    """
    objects = {name: name.removesuffix(".name").removesuffix("._target_") for name in varied}
    short = {name: one.rpartition(".")[2] for name, one in objects.items()}
    taken = list(short.values())
    return {name: name if taken.count(one) > 1 else one for name, one in short.items()}


def format_value(value: Any, *, exact: bool = True) -> str:
    """Return a value as YAML writes it; `exact=False` rounds numbers to four digits."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and not exact:
        return f"{value:.4g}"
    return str(value)
