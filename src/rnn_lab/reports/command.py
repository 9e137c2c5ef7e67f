"""The `report` command: report a sweep, a run, or a sweep of the long-range experiment."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_lab.errors import ConfigError, WriteError, sanitize
from rnn_lab.io.replace import check_replaceable, starts_with_marks
from rnn_lab.overrides import parse_arguments
from rnn_lab.paths import local_path
from rnn_lab.runs.run_folder import run_folder

if TYPE_CHECKING:
    from rnn_lab.reports.run.examples import Attribute

USAGE = """rnn-lab report sweep=<folder> [output=<folder>]
  Print the runs of a sweep by rank, and write summary.csv and sweep.html to its folder. This also
  works while the sweep runs. A name stands for runs/<name>, as in `train -m ... sweep=<name>`.
  output: another folder for summary.csv and sweep.html. Other files of these names are not replaced

rnn-lab report run=<folder> [output=<file>] [examples=<number>]
  Write everything of one run to run.html in its folder, a page that needs no other file: metrics
  and baselines, curves, confusion matrix, calibration, the test texts with the highest loss with
  their words coloured by attribution, data, config, versions and the command that reproduces it.
  A damaged or missing part is named on the page. <folder> is that of a run, also one of a sweep or
  unfinished, or that of an evaluation. The pages of a sweep and of its runs link to each other.
  output: another file, .html. One that is not the page of a run is not replaced
  examples: number of texts with the highest loss, 0 to 100; default: 10

rnn-lab report long_range=<folder>[,<folder>...] [output=<file>] [flow_distance=<distance>]
  Print the accuracy of each model by distance as a Markdown table, and plot it with the gradient
  flow. <folder> holds the runs of `train -m experiment=long_range`.
  output: the .png to write; default: long_range.png in the first folder. Another file is not
    replaced
  flow_distance: distance at which the gradient flow is shown; default: the middle one measured"""

# By these, near the start, a file that a report may replace is recognized.
_SUMMARY = (b"folder,status,rank,",)
_SWEEP_PAGE = (b"<!DOCTYPE html>", b'"Content-Security-Policy"', b"<title>Sweep ")
_RUN_PAGE = (b"<!DOCTYPE html>", b'"Content-Security-Policy"', b"<title>Run ")
_PNG, _PNG_TITLE = b"\x89PNG", "Accuracy by distance, rnn-lab report long_range"

OPTIONS = {  # by the one that names the report
    "sweep": ["sweep", "output"],
    "run": ["run", "output", "examples"],
    "long_range": ["long_range", "output", "flow_distance"],
}


def report(arguments: Sequence[str], attribute: "Attribute | None" = None) -> None:
    """Write the report that `arguments` ask for: `sweep=`, `run=` or `long_range=` names it.

    `attribute` attributes predictions to words; None: the texts of a run have no colours.

    Raises:
        ConfigError: an argument is unknown, repeated, missing or malformed.
        UserError: the folder cannot be read, or the report cannot be written.
    """
    if not arguments:
        raise ConfigError("give sweep=<folder>, run=<folder> or long_range=<folder>")
    names = [argument.partition("=")[0] for argument in arguments]
    known = next((OPTIONS[name] for name in names if name in OPTIONS), list(OPTIONS))
    options = parse_arguments(arguments, known)
    if "sweep" in options:
        from rnn_lab.reports.sweep.report import report_sweep
        from rnn_lab.runs.run_folder import SWEEP_PAGE

        output = _output(options)
        if output is not None:
            _check(output / "summary.csv", options, "the summary of a sweep", _SUMMARY)
            _check(output / SWEEP_PAGE, options, "the page of a sweep", _SWEEP_PAGE)
        with _warning_without(output, "output=<folder>"):
            report_sweep(find_output_dir(options["sweep"]), output=output)
    elif "run" in options:
        _report_run(options, attribute)
    else:
        _report_long_range(options)


def find_output_dir(name: str) -> Path:
    """Return the folder `name`, or runs/<name> where only that exists."""
    folder, named = local_path(name), Path("runs") / name
    return named if not folder.is_dir() and named.is_dir() else folder


def _output(options: dict[str, str]) -> Path | None:
    return local_path(options["output"]) if "output" in options else None


def _check(path: Path, options: dict[str, str], kind: str, marks: Collection[bytes]) -> None:
    """Raise a ConfigError if `path` is a file without the marks that our files of a kind have."""
    has_marks = partial(starts_with_marks, marks=marks)
    check_replaceable(path, f"output={options['output']}", kind, has_marks)


def _check_suffix(path: Path, options: dict[str, str], suffixes: Collection[str]) -> None:
    if path.suffix.lower() not in suffixes:
        choices = ", ".join(suffixes)
        given = f"output={options['output']}"
        raise ConfigError(f"{given}: unknown file ending. Choose from: {choices}")


@contextmanager
def _warning_without(output: Path | None, option: str) -> Iterator[None]:
    """Print a warning where a report cannot be written, unless the user chose where to: `output`.

    What it says has been printed by then.
    """
    try:
        yield
    except WriteError as error:
        if output is not None:
            raise
        print(f"warning: {error}. {option} writes it elsewhere", file=sys.stderr)


def _report_run(options: dict[str, str], attribute: "Attribute | None") -> None:
    from rnn_lab.reports.run.examples import Examples
    from rnn_lab.reports.run.page import check_run_folder, write_run_page
    from rnn_lab.runs.predictions import MAX_TOP_LOSSES
    from rnn_lab.runs.run_folder import RUN_PAGE

    most = options.get("examples", "10")
    if not most.isdecimal() or int(most) > MAX_TOP_LOSSES:
        raise ConfigError(f"examples={most}: not a whole number from 0 to {MAX_TOP_LOSSES}")
    given = find_output_dir(options["run"])
    folder = run_folder(given) or given
    check_run_folder(folder)
    path = _output(options) or folder / RUN_PAGE
    path = path / RUN_PAGE if path.is_dir() else path
    if "output" in options:
        _check_suffix(path, options, (".html", ".htm"))
        _check(path, options, "the page of a run", _RUN_PAGE)
    try:
        problems = write_run_page(folder, path, Examples(int(most), attribute))
    except WriteError as error:
        if "output" in options:
            raise
        raise WriteError(f"{error}. output=<file> writes it elsewhere") from None
    for problem in problems:
        print(sanitize(f"missing or damaged: {problem}"))
    print(f"Page: {path}")


def _report_long_range(options: dict[str, str]) -> None:
    distance = options.get("flow_distance")
    if distance is not None and not distance.isdecimal():
        raise ConfigError(f"flow_distance={distance}: not a whole number of words")
    from rnn_lab.reports.long_range import format_markdown, plot_long_range, read_long_range
    from rnn_lab.reports.plot_style import save_png

    names = options["long_range"]
    single = find_output_dir(names)  # whose name may contain a comma
    folders = [single] if single.is_dir() else [find_output_dir(name) for name in names.split(",")]
    output = _output(options)
    path = output or folders[0] / "long_range.png"
    if output is not None:
        _check_suffix(output, options, (".png",))
        _check(output, options, "the plot of a long-range sweep", (_PNG, _PNG_TITLE.encode()))
    sweep = read_long_range(folders)
    figure = plot_long_range(sweep, None if distance is None else int(distance))
    print(format_markdown(sweep))
    for folder in sweep.unfinished:
        print(f"unfinished: {folder}")
    for model, at, seed in sweep.missing:
        print(f"missing: {model}, distance {at}, seed {seed}")
    with _warning_without(output, "output=<file>"):
        print(f"Plot: {save_png(figure, path, title=_PNG_TITLE)}")
