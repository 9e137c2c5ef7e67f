"""Report a sweep, at any time: `python -m rnn_lab.reports sweep=<folder>`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rnn_lab.errors import ConfigError, UserError
from rnn_lab.reports.sweep.report import report_sweep

USAGE = """python -m rnn_lab.reports sweep=<folder>

Prints the runs of a sweep by rank and writes summary.csv and sweep.html into its folder, also
while it runs. A name stands for runs/<name>, as in `python train.py -m ... sweep=<name>`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Report the sweep that the arguments name."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--help"], ["-h"]):
        print(USAGE)
        return
    try:
        report_sweep(sweep_folder(given))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def sweep_folder(arguments: Sequence[str]) -> Path:
    """Return the folder that `sweep=...` means.

    Raises:
        ConfigError: the arguments are not one sweep=<folder>.
    """
    name, equals, value = arguments[0].partition("=") if arguments else ("", "", "")
    if len(arguments) != 1 or name != "sweep" or not equals or not value:
        raise ConfigError("give one sweep=<folder>: python -m rnn_lab.reports sweep=runs/<name>")
    folder = Path(value)
    named = Path("runs") / value
    return named if not folder.is_dir() and named.is_dir() else folder


if __name__ == "__main__":
    main()
