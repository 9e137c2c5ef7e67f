"""Find the options that vary between the jobs of a sweep, from their composed configs."""

import json
from collections.abc import Sequence
from typing import Any

from rnn_lab.runs.result_json import option_key
from rnn_lab.runs.run_config import ABSENT, SEED, RawConfig
from rnn_lab.validation import FINGERPRINT_EXCLUDED

FOLD, FOLDS = "data.fold", "data.folds"
REPEATS = (FOLD, SEED)  # runs that differ in these alone repeat one configuration
# The options that decide which others their group has, such as model.name and data.source.
_SELECTORS = ("name", "source", "_target_")


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
