"""Errors that the user can fix. A command prints each as one line and exits with status 1."""

import re

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


def user_message(error: Exception) -> str:
    """Return the text to print: a UserError's own lines, any other error in one line."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing[1]}: no value given; add {missing[1]}=... to the command"
    if option := getattr(error, "full_key", None):  # an error of OmegaConf
        return f"{option}: {_one_line(_OMEGACONF_DETAILS.sub('', text))}"
    if override := getattr(error, "override", None):  # an error of Hydra's grammar
        from rnn_lab.overrides import suggest_quotes  # it imports Hydra

        reason = _one_line(text).partition(" See https://")[0]
        reason = reason.removeprefix(f"Error parsing override '{override}' ")
        if reason.startswith("LexerNoViableAltException"):
            reason = "has a character that needs quotes"
        advice = f"; to give it as text: {quoted}" if (quoted := suggest_quotes(override)) else ""
        return f"{override}: not a valid override: {reason}{advice}"
    return _one_line(text)


def _one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip())
