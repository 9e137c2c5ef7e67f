"""result.json: the metrics, options, data and timings of a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_lab.errors import CheckpointError
from rnn_lab.io.schema import SCHEMA_KEY, check_schema
from rnn_lab.runs.csv_table import read_run_file
from rnn_lab.runs.untrusted import get_group
from rnn_lab.validation import flatten

_RESULT_KEYS = ("model", "data", "seed", "synthetic", "best_epoch")
_OPTION_GROUPS = ("objective", "model", "loss", "optimizer", "scheduler", "trainer")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        CheckpointError: the file cannot be read or does not contain one.
    """
    try:
        found = json.loads(read_run_file(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected an object, found {type(found).__name__}")
    return found


def read_result(run_folder: Path) -> dict[str, Any]:
    """Return result.json: the metrics, options, data and timings of a run.

    Raises:
        CheckpointError: the file cannot be read, has another schema version, or lacks a key that
            every report needs.
    """
    path = run_folder / "result.json"
    result = read_object(path)
    check_schema(result.get(SCHEMA_KEY), str(path))
    for key in _RESULT_KEYS:
        if key not in result:
            raise CheckpointError(f"{path}: has no {key!r}")
    for key in ("model", "data"):
        if not isinstance(result[key], dict) or not isinstance(result[key].get("name"), str):
            raise CheckpointError(f"{path}: {key!r} has no 'name'")
    return result


def recorded_options(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in a result.json under dotted names: {"model.hidden_size": 128, ...}."""
    data = result.get("data")
    groups = {name: result.get(name) for name in _OPTION_GROUPS}
    options = {name: group for name, group in groups.items() if isinstance(group, Mapping)}
    options["data"] = data.get("options") or {} if isinstance(data, Mapping) else {}
    return flatten({**options, "seed": result.get("seed")})


def recorded_mode(result: Mapping[str, Any]) -> Any:
    """Return whether a smaller or larger `monitored_metric` is better: the argument of metric_mode.

    A run of an earlier version recorded its option alone.
    """
    return result.get("monitored_mode") or get_group(result, "trainer").get("monitor_mode")


def option_key(value: Any) -> tuple[str, Any]:
    """Return a hashable key, equal for equal values of an option.

    1, true and "1" are three values; 1 and 1.0 are one, and so are a list and a tuple.
    """
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int | float):
        return "number", value
    if value is None or isinstance(value, str):
        return type(value).__name__, value
    return "json", json.dumps(value, sort_keys=True, default=str)


def diff_options(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, value in `a`, value in `b`) of every option that differs.

    Groups of options are compared under dotted names ("model.hidden_size"). An option that one of
    the two does not have counts as null.
    """
    first, second = flatten(a), flatten(b)
    return [
        (name, first.get(name), second.get(name))
        for name in dict.fromkeys([*first, *second])
        if option_key(first.get(name)) != option_key(second.get(name))
    ]


def format_differences(differing: Sequence[tuple[str, Any, Any]], most: int | None = None) -> str:
    """Return "seed=1 (saved), 2 (requested); ..." of what `diff_options` found, in one line.

    With `most`, at most so many, and how many more there are.
    """
    shown = [f"{name}={saved} (saved), {now} (requested)" for name, saved, now in differing[:most]]
    hidden = len(differing) - len(shown)
    return "; ".join(shown) + (f" (and {hidden} more)" if hidden else "")
