"""The version of the files that a run leaves: checkpoints, result.json and exported files."""

from typing import Any

from rnn_lab.errors import CheckpointError, sanitize

SCHEMA_KEY = "schema_version"
SCHEMA_VERSION = 3


def schema_mismatch(found: Any) -> str | None:
    """Return what is wrong with a file's value under SCHEMA_KEY; None if it is this version's."""
    if type(found) is int and found == SCHEMA_VERSION:
        return None
    has = "no schema_version" if found is None else f"schema_version {sanitize(repr(found), 40)}"
    return f"has {has}; this version of rnn-lab reads schema_version {SCHEMA_VERSION}"


def check_schema(found: Any, what: str) -> None:
    """Make sure that a file has the schema version of this package.

    Args:
        found: what the file has under SCHEMA_KEY; None: nothing.
        what: begins the message, such as the file's path.

    Raises:
        CheckpointError: it is another version; the message names both.
    """
    if mismatch := schema_mismatch(found):
        raise CheckpointError(f"{what}: {mismatch}")
