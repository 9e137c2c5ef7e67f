"""Errors that a user can mend. A door shows each as one line and exits with status 1."""

import re


class UserError(Exception):
    """Something outside the program is wrong; the message says what, where, and the choices."""


class ConfigError(UserError):
    """An option has an impossible value; the message names the option and its choices."""


class OutputDirConflictError(ConfigError):
    """The folder holds another run, which stays as it is."""


class DataError(UserError):
    """Reviews are missing, damaged or malformed; the message names the file and line."""


class MissingDataError(DataError):
    """There are no reviews, and none can be fetched; the message says what to put where."""


class WriteError(UserError):
    """The system does not let a file be written; the message names it, why, and what to do."""


class CheckpointError(UserError):
    """A run folder or checkpoint cannot be used; the message names it."""


def sanitize(text: str, longest: int = 300) -> str:
    """Return what a file says as a terminal may have it: in one line, and no control characters."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain if len(plain) <= longest else f"{plain[:longest]}..."


def user_message(error: Exception) -> str:
    """Return what to tell the user: a UserError's own lines, another error's text in one."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing[1]}: no value given; add {missing[1]}=... to the command"
    return re.sub(r"\s*\n\s*", " ", text.strip())
