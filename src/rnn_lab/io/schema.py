"""The version of the files that a run leaves; files of another version are refused."""

from collections.abc import Mapping
from typing import Any

from rnn_lab.errors import CheckpointError, sanitize

SCHEMA_VERSION = 2


def check_schema(found: Mapping[str, Any], what: str) -> None:
    """Make sure that a file has the schema version of this release.

    Raises:
        CheckpointError: it has another one, or none. No message has the path.
    """
    version = found.get("schema_version")
    if version != SCHEMA_VERSION:
        shown = "none" if version is None else sanitize(repr(version), 40)
        raise CheckpointError(
            f"{what} has schema version {shown}; this release reads version {SCHEMA_VERSION}"
        )
