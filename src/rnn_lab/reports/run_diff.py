"""Compare two runs: which options and metrics differ, and what could explain it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rnn_lab.reports.formatting import SPLIT_NAMES
from rnn_lab.reports.run_files import recorded_options
from rnn_lab.validation import FINGERPRINT_EXCLUDED, flatten

if TYPE_CHECKING:
    from rich.console import Console

_COUNTS = ("best_epoch", "epochs")
_MAX_NAMED = 3  # differing metrics in the one-line summary
_MAX_LENGTH = 60  # characters of a value: the file may contain anything


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


@dataclass(frozen=True)
class Comparison:
    """The metrics of two runs, and the reasons why they may differ."""

    metrics: dict[str, tuple[Any, Any]]  # name -> recorded, reproduced
    reasons: list[str]

    @property
    def differing(self) -> list[str]:
        """The names of the metrics that are not bit-identical."""
        return [name for name, (first, second) in self.metrics.items() if first != second]

    def format_differing(self) -> str:
        """Return "2 of 12 metrics differ (val/loss, test/loss)"."""
        named = [_format_value(name) for name in self.differing[:_MAX_NAMED]]
        named += ["..."] * (len(self.differing) > _MAX_NAMED)
        return f"{len(self.differing)} of {len(self.metrics)} metrics differ ({', '.join(named)})"


def compare_runs(recorded: Mapping[str, Any], reproduced: Mapping[str, Any]) -> Comparison:
    """Compare the contents of two result.json, the second one made here and now."""
    splits = tuple(f"{split}/" for split in SPLIT_NAMES)
    found = (name for name in (*reproduced, *recorded) if name.startswith(splits))
    names = dict.fromkeys((*_COUNTS, *found))
    metrics = {name: (recorded.get(name), reproduced.get(name)) for name in names}
    return Comparison(metrics, list(_reasons(recorded, reproduced)))


def print_comparison(comparison: Comparison, console: "Console | None" = None) -> None:
    """Print both values of every metric, whether they are equal, and what else differs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric")
    for column in ("recorded", "reproduced", "equal"):
        table.add_column(column, justify="right")
    for name, pair in comparison.metrics.items():
        row = (name, *pair, "yes" if pair[0] == pair[1] else "NO")
        table.add_row(*(Text(_format_value(cell)) for cell in row))
    console.print(table)
    lines = list(comparison.reasons)
    if not comparison.differing:
        lines.insert(0, f"All {len(comparison.metrics)} metrics are bit-identical.")
    elif comparison.reasons:
        lines.insert(0, f"{comparison.format_differing()}. The runs also differ in:")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _reasons(recorded: Mapping[str, Any], reproduced: Mapping[str, Any]) -> Iterator[str]:
    for first, second in zip(_causes(recorded), _causes(reproduced), strict=True):
        for name, *values in diff_options(first, second):
            before, here = map(_format_value, values)
            hint = f" (OMP_NUM_THREADS={before})" if name == "threads" else ""
            yield f"{name}: {before} recorded, {here} here{hint}"
    if recorded_options(reproduced).get("trainer.accelerator") == "gpu":
        yield "a GPU does not fix the order of every sum"


def _causes(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what the metrics of a run depend on, in groups."""
    return [
        _effective_options(result),
        _group(result, "versions"),
        _group(result, "machine"),
        {"git_commit": result.get("git_commit")},
        {"threads": _group(result, "timing").get("threads")},
    ]


def _effective_options(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that results depend on.

    Paths of the user's own texts do not count: the fingerprint tells whether the texts are equal.
    """
    return {
        name: value
        for name, value in recorded_options(result).items()
        if name not in FINGERPRINT_EXCLUDED
        and not (name.startswith("data.") and name.endswith("_path"))
    }


def _group(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = result.get(name)
    return found if isinstance(found, Mapping) else {}


def _format_value(value: Any) -> str:
    """Return a value safe to print: it may come from an untrusted file."""
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
