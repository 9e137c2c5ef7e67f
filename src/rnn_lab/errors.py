"""Errors that the user can fix. A command prints each as one line and exits with status 1."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

# Lines that OmegaConf adds to its messages.
_OMEGACONF_DETAILS = re.compile(r"^\s*(full_key: |object_type=|reference_type=).*$", re.MULTILINE)


class UserError(Exception):
    """Something outside the program is wrong; the message says what, where, and the choices."""


class ConfigError(UserError):
    """An option has an invalid value; the message names the option and its choices."""


class OutputDirConflictError(ConfigError):
    """The output folder contains another run, which is left unchanged."""


class DataError(UserError):
    """Texts are missing, damaged or malformed; the message names the file and line."""


class MissingDataError(DataError):
    """No texts are on disk and none can be downloaded; the message says what to put where."""


class WriteError(UserError):
    """The system refuses to write a file; the message names it, the reason and what to do."""


class CheckpointError(UserError):
    """A run folder or checkpoint cannot be used; the message names it."""


def sanitize(text: str, longest: int = 300) -> str:
    """Return untrusted text for a terminal: one line, no control characters, at most `longest`."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain if len(plain) <= longest else f"{plain[:longest]}..."


def listed(names: Sequence[str], most: int) -> str:
    """Return "a, b, c", at most so many names, and how many more there are."""
    more = len(names) - most
    shown = ", ".join(names[:most])
    return f"{shown} and {more:,} more" if more > 0 else shown


def user_message(error: Exception) -> str:
    """Return the text to print: a UserError's own lines, any other error in one line."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing[1]}: no value given; add {missing[1]}=... to the command"
    if option := getattr(error, "full_key", None):  # an error of OmegaConf
        return f"{option}: {join_lines(_OMEGACONF_DETAILS.sub('', text))}"
    return join_lines(text)


def join_lines(text: str) -> str:
    """Return a text with its lines joined by spaces; what it quotes keeps its own spaces."""
    return re.sub(r"\s*\n\s*", " ", text.strip())


def collapse_whitespace(text: object) -> str:
    """Return `text` with each run of white space as one space: in one line."""
    return " ".join(str(text).split())


def whole_message(error: object) -> str:
    """Return an error's message in one line, or the name of its class if it has none."""
    return collapse_whitespace(error) or type(error).__name__


def first_line(error: object) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def error_line(error: Exception) -> str:
    """Return an error in one line; one that is not a UserError with its class."""
    if isinstance(error, UserError) or hasattr(error, "full_key"):  # an error of OmegaConf
        return "; ".join(user_message(error).splitlines())
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line}".rstrip(": ")


@contextmanager
def exiting_on_errors(line_of: Callable[[Exception], str | None]) -> Iterator[None]:
    """Exit with the line that `line_of` returns for an error, and with status 130 on Ctrl-C.

    Without a line, an error is a fault of the program and keeps its stack trace.
    """
    try:
        yield
    except Exception as error:
        if (line := line_of(error)) is None:
            raise
        exit_with(line)
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:  # else the run has printed how to resume it
            print("stopped", file=sys.stderr)
        sys.exit(130)


@contextmanager
def exiting_in_callback() -> Iterator[None]:
    """Exit with the lines of a UserError: Hydra swallows exceptions of a callback, not SystemExit.

    Decorates a method of the callback, too.
    """
    try:
        yield
    except UserError as error:
        exit_with(str(error))


def exit_with(lines: str) -> NoReturn:
    """Print each line as an error, and exit with status 1."""
    print_error(lines)
    sys.exit(1)


def print_error(lines: str) -> None:
    """Print each line as an error."""
    for line in lines.splitlines():
        print(f"error: {sanitize(line, longest=10_000)}", file=sys.stderr)
