"""Which options differ between the runs of a sweep, from their composed configs."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_lab.errors import CheckpointError
from rnn_lab.io.atomic import read_text
from rnn_lab.validation import FINGERPRINT_EXCLUDED

RawConfig = dict[str, Any]  # dotted name -> a word, number, truth value, null or reference

ABSENT = "\N{EN DASH}"  # what tables show where a run has no such option
SEED = "seed"
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def read_config(folder: Path, result: Mapping[str, Any] | None = None) -> RawConfig:
    """Return the composed config of a job, flat: {"model.hidden_size": 128, "seed": 1, ...}.

    References such as `${seed}` stay as they are: an option that only repeats another is not
    varied. Nothing is resolved that reads the environment. Without a config file the options are
    those in the job's `result`, and where there is none, none.

    Raises:
        CheckpointError: the file is there and cannot be read.
    """
    path = folder / "config" / "config.yaml"
    if not path.exists():
        return {} if result is None else config_of_result(result)
    try:
        config = load_yaml(path)
    except Exception as error:  # YAML and OmegaConf have no common error
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be read ({reason})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: no options in it")
    return dict(_flat(config))


def load_yaml(path: Path) -> Any:
    """Return what a YAML file of Hydra's holds, in plain types and with references unresolved.

    Raises:
        CheckpointError: an alias in it, of which a few lines can make more than fits in memory.
    """
    import yaml
    from omegaconf import OmegaConf

    text = read_text(path)
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)):
        raise CheckpointError("holds an alias, which Hydra never writes")
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)


def config_of_result(result: Mapping[str, Any]) -> RawConfig:
    """Return the options that a run's result.json names, as `read_config` has them."""
    groups = ("model", "optimizer", "scheduler", "trainer")
    config = {name: result[name] for name in groups if name in result}
    config |= {"data": result["data"].get("options", {}), SEED: result[SEED]}
    flat = dict(_flat(config))
    computed = ("trainer.precision", "trainer.accelerator", "trainer.devices")
    for name in ("model.parameters", *computed):
        flat.pop(name, None)
    if flat.get("data.split_seed") == flat[SEED]:
        flat["data.split_seed"] = "${seed}"
    return flat


def _flat(config: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value is None or isinstance(value, str | bool | int | float):
            yield name, value
        else:
            yield name, json.dumps(value, default=str)


def resolved(config: RawConfig, name: str) -> Any:
    """Return the value of an option, references to other options followed; ABSENT without one."""
    value = config.get(name, ABSENT)
    for _ in range(8):  # a chain longer than that is a circle
        reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None or reference[1] not in config:
            break
        value = config[reference[1]]
    return value


def varied_options(configs: Sequence[RawConfig]) -> list[str]:
    """Return the options that have two values or more, in the order of the config, seed last.

    An option that some runs do not have (only an LSTM has a forget bias) counts by its values in
    the others.
    """
    values: dict[str, set[tuple[str, Any]]] = {}
    for config in configs:
        for name, value in config.items():
            if _has_effect(name):
                values.setdefault(name, set()).add(_distinct(value))
    varied = [name for name, found in values.items() if len(found) > 1]
    return sorted(varied, key=lambda name: name == SEED)


def _has_effect(name: str) -> bool:
    group, option = name.partition(".")[0], ".".join(name.split(".")[:2])
    return group != "hydra" and not {group, option} & FINGERPRINT_EXCLUDED


def _distinct(value: Any) -> tuple[str, Any]:
    """A key that holds 1, true and "1" apart, and 1 and 1.0 together."""
    kind = "number" if isinstance(value, int | float) else type(value).__name__
    return ("bool", value) if isinstance(value, bool) else (kind, value)


def same_but_seed(config: RawConfig, varied: Sequence[str]) -> tuple[Any, ...]:
    """Return what the runs of one group share: the varied options without the seed."""
    return tuple(_distinct(config.get(name, ABSENT)) for name in varied if name != SEED)


def short_names(varied: Sequence[str]) -> dict[str, str]:
    """Return what columns are called: "hidden_size", "model" for model.name, whole if ambiguous."""

    def short(name: str) -> str:
        return name.removesuffix(".name").rpartition(".")[2]

    counts = [short(name) for name in varied]
    return {name: short(name) if counts.count(short(name)) == 1 else name for name in varied}


def written(value: Any, *, whole: bool = True) -> str:
    """Return a value as YAML has it; `whole=False` gives numbers of four digits at most."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and not whole:
        return f"{value:.4g}"
    return str(value)


def cut(text: str, letters: int = 18) -> str:
    """Return a text as a label has room for it, both ends kept."""
    text = " ".join(text.split())
    if len(text) <= letters:
        return text
    return f"{text[: letters // 2]}…{text[-(letters - letters // 2 - 1) :]}"
