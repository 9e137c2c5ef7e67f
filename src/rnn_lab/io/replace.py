"""Refuse to replace a file of the user's that the project did not write."""

from collections.abc import Callable, Collection
from pathlib import Path

from rnn_lab.errors import ConfigError

_START = 4096  # bytes in which a file of the project is recognized


def check_replaceable(
    path: Path,
    option: str,
    kind: str,
    is_ours: Callable[[Path], bool],
    *,
    advice: str = "choose another name",
) -> None:
    """Make sure that a file at `path`, if there is one, is empty or one of ours.

    Args:
        path: of the file that is to be written.
        option: that names it or its folder, for the message: output=<what the user gave>.
        kind: what the file would have to be, for the message.
        is_ours: returns whether an existing file is of that kind.
        advice: what to do about another file, for the message.

    Raises:
        ConfigError: it is another file, or cannot be read.
    """
    try:
        is_other = path.is_file() and path.stat().st_size > 0 and not is_ours(path)
    except OSError as error:
        raise ConfigError(f"{option}: {path}: {error.strerror}") from None
    if is_other:
        name = "" if option.endswith(str(path)) else f"{path}: "
        raise ConfigError(f"{option}: {name}exists and is not {kind}; {advice}")


def starts_with_marks(path: Path, marks: Collection[bytes]) -> bool:
    """Return whether all `marks` are in the first bytes of a file."""
    with path.open("rb") as file:
        start = file.read(_START)
    return all(mark in start for mark in marks)
