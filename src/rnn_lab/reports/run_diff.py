"""Two runs of one config beside each other: the same figures, and if not, for what reason."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rnn_lab.validation import FINGERPRINT_EXCLUDED, flatten

if TYPE_CHECKING:
    from rich.console import Console

_COUNTS = ("best_epoch", "epochs")
_SPLITS = ("val/", "test/")
# Where a user's own texts lay: their fingerprint says whether they are the same.
_PLACES = {"data.train_path", "data.test_path", "data.val_path"}
_NAMED = 3  # figures
_LETTERS = 60  # of a value of a file that may hold anything


@dataclass(frozen=True)
class Comparison:
    """The figures of two runs, and in what else the runs differ."""

    figures: dict[str, tuple[Any, Any]]  # name -> then, now
    reasons: list[str]

    @property
    def differing(self) -> list[str]:
        """The names of the figures that differ in a bit."""
        return [name for name, (then, now) in self.figures.items() if then != now]

    def differing_words(self) -> str:
        """Return "2 of 12 figures differ (val/loss, test/loss)"."""
        named = [*map(_plain, self.differing[:_NAMED]), *["..."] * (len(self.differing) > _NAMED)]
        return f"{len(self.differing)} of {len(self.figures)} figures differ ({', '.join(named)})"


def compare_runs(then: Mapping[str, Any], now: Mapping[str, Any]) -> Comparison:
    """Compare the contents of two result.json, the second of this machine and now."""
    names = dict.fromkeys((*_COUNTS, *(name for name in (*now, *then) if name.startswith(_SPLITS))))
    figures = {name: (then.get(name), now.get(name)) for name in names}
    return Comparison(figures, list(_reasons(then, now)))


def print_comparison(comparison: Comparison, console: "Console | None" = None) -> None:
    """Print every figure then and now, whether they are the same, and what else is not."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("figure")
    for column in ("then", "now", "same"):
        table.add_column(column, justify="right")
    for name, (then, now) in comparison.figures.items():
        row = (_plain(name), _plain(then), _plain(now), "yes" if then == now else "NO")
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    lines = list(comparison.reasons)
    if not comparison.differing:
        lines.insert(0, f"All {len(comparison.figures)} figures are the same, to the last bit.")
    elif comparison.reasons:
        lines.insert(0, f"{comparison.differing_words()}. The runs differ in more than that:")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def diff_options(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, value in a, value in b) of every option that differs; None where absent."""
    return [
        (name, a.get(name), b.get(name))
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name)
    ]


def _reasons(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, was, made in _differences(_options(then), _options(now)):
        yield f"{name}: {was} then, {made} now"
    for part in ("versions", "machine"):
        for name, was, made in _differences(_group(then, part), _group(now, part)):
            yield f"{name}: {was} then, {made} now"
    timings = _group(then, "timing"), _group(now, "timing")
    for name, (before, after) in {"git_commit": (then, now), "threads": timings}.items():
        if before.get(name) != after.get(name):
            said = _plain(before.get(name))
            hint = f" (OMP_NUM_THREADS={said})" if name == "threads" else ""
            yield f"{name}: {said} then, {_plain(after.get(name))} now{hint}"
    if _options(now).get("trainer.accelerator") == "gpu":
        yield "on a GPU not every sum has an order of its own"


def _options(result: Mapping[str, Any]) -> dict[str, Any]:
    groups = {name: _group(result, name) for name in ("model", "optimizer", "scheduler", "trainer")}
    options = flatten(groups | {"data": _group(_group(result, "data"), "options")})
    without = FINGERPRINT_EXCLUDED | _PLACES
    return {name: value for name, value in options.items() if name not in without}


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in now:
        if then.get(name) != now[name]:
            yield name, _plain(then.get(name, "unknown")), _plain(now[name])


def _group(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = result.get(name)
    return found if isinstance(found, Mapping) else {}


def _plain(value: Any) -> str:
    """Return a value as it may go to a terminal, whatever file it comes from."""
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}..."
