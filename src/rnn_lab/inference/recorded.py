"""How a run's training texts were read, from its result.json or its checkpoint."""

from typing import Any

from rnn_lab.data.readers.reading import ReadInfo
from rnn_lab.errors import CheckpointError
from rnn_lab.paths import local_path
from rnn_lab.runs.result_json import read_result
from rnn_lab.runs.run_folder import run_folder

TRAINING = "train_path"  # of the sources of a corpus


def recorded_read_info(run: str) -> tuple[bool, ReadInfo | None]:
    """Return whether the run has a result.json, and how its training texts were read.

    A result.json is read in no time, a checkpoint after torch was imported.
    """
    if (folder := run_folder(local_path(run))) is None:
        return False, None
    try:
        data = read_result(folder)["data"]
    except CheckpointError:
        return False, None
    return True, training_read_info(data.get("source_info"))


def training_read_info(source_info: Any) -> ReadInfo | None:
    """Return how the training texts were read, of a corpus' `source_info`, which is untrusted."""
    found = source_info.get(TRAINING) if isinstance(source_info, dict) else None
    return ReadInfo.from_dict(found) if isinstance(found, dict) else None
