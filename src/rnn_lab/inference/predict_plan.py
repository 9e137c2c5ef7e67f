"""Divide the input of predict into parts, each with an output and a record of it.

The output folder has a hidden folder beside the predictions: a record of each output, which says
what it was made from, the locks of the shards, and the logs of their jobs. A shard needs nothing
else of the others, so that any of them may run at any time on any machine that sees both folders.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_lab.data.readers.formats import known_format
from rnn_lab.errors import ConfigError, UserError, sanitize
from rnn_lab.inference.config import PredictOptions
from rnn_lab.inference.input_files import InputFile, find_input_files
from rnn_lab.inference.labelling import Counts
from rnn_lab.inference.shards import Shard, divide
from rnn_lab.io.atomic import read_json, write_json
from rnn_lab.paths import local_path
from rnn_lab.plugins import require_extra

RECORDS = ".predict"  # in the output folder
WHOLE = Shard(0, 1)
_UNEVEN = 2  # times the mean, from which the bytes of a shard are worth a hint


@dataclass(frozen=True)
class Part:
    """A file, or a shard of its rows, and where its predictions are written."""

    file: InputFile
    rows: Shard
    folder: Path  # of all outputs
    ending: str

    @property
    def name(self) -> str:
        """The path of the output within the output folder."""
        rows = "" if self.rows == WHOLE else f"-{self.rows.file_name}"
        return f"{self.file.name}{rows}{self.ending}"

    @property
    def output(self) -> Path:
        """The file of its predictions."""
        return self.folder / self.name

    @property
    def record(self) -> Path:
        """The file that says what `output` was made from, or why it is not there."""
        return self.folder / RECORDS / "files" / f"{self.name}.json"

    def __str__(self) -> str:
        rows = "" if self.rows == WHOLE else f" ({self.rows})"
        return f"{sanitize(str(self.file.path))}{rows}"

    def is_done(self, fingerprint: str) -> bool:
        """Return whether `output` has the predictions of the file as it is now."""
        record = self.read_record()
        try:
            size = self.output.stat().st_size
        except OSError:
            return False
        return record.items() >= self._state(fingerprint).items() and record.get("bytes") == size

    def read_record(self) -> Mapping[str, Any]:
        """Return the record, {} if there is none or it is damaged."""
        return read_json(self.record) or {}

    def write_record(self, fingerprint: str, counts: Counts) -> None:
        """Record that `output` is complete."""
        size = self.output.stat().st_size
        write_json(self.record, self._state(fingerprint) | counts._asdict() | {"bytes": size})

    def write_failure(self, error: UserError) -> None:
        """Record why there is no output."""
        write_json(self.record, {"error": str(error)})

    def _state(self, fingerprint: str) -> dict[str, Any]:
        file = self.file
        state = {"input": str(file.path), "input_bytes": file.size, "mtime_ns": file.mtime_ns}
        return state | {"fingerprint": fingerprint}


@dataclass(frozen=True)
class Plan:
    """All parts of the input, and which of them each shard has."""

    folder: Path
    parts: Sequence[Part]
    shares: Sequence[Sequence[int]]

    @classmethod
    def of(cls, options: PredictOptions, count: int) -> "Plan":
        """Divide the input of `options` in `count` shards: the rows of one file, or whole files.

        Raises:
            UserError: an input does not exist, or the output is no folder for its predictions.
        """
        folder = _output_folder(options)
        found = find_input_files(options.inputs, folder, any_ending=options.any_ending)
        ending = f".{options.output_format or ('parquet' if options.engine == 'ray' else 'jsonl')}"
        if ending == ".parquet":
            require_extra("files", f"output_format={ending[1:]}", needs="pyarrow")
        if len(found) == 1:
            rows = [Shard(index, count) for index in range(count)]
            parts = [Part(found[0], shard, folder, ending) for shard in rows]
            shares = [[index] for index in range(count)]
        else:
            parts = [Part(file, WHOLE, folder, ending) for file in found]
            shares = divide([file.size for file in found], count)
        inputs = {part.file.path for part in parts}
        for part in parts:
            if part.output in inputs:
                raise ConfigError(
                    f"output={folder}: {part.name} is an input; choose another folder"
                )
        return cls(folder, parts, shares)

    @property
    def fingerprint(self) -> str:
        """Of all that the shards depend on."""
        files = [(str(part.file.path), part.file.size, part.file.mtime_ns) for part in self.parts]
        return hashlib.sha256(repr(files).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def parts_of(self, shard: Shard) -> list[Part]:
        """Return the parts of a shard."""
        return [self.parts[position] for position in self.shares[shard.index]]

    def describe_uneven(self) -> str | None:
        """Return a hint where one file makes a shard much longer than the others."""
        sizes = [part.file.size for part in self.parts]
        if len(self.parts) < 2 or max(sizes) * len(self.shares) <= _UNEVEN * sum(sizes):
            return None
        largest = max(self.parts, key=lambda part: part.file.size)
        share = max(sizes) / sum(sizes)
        return (
            f"{largest} has {share:.0%} of the bytes, and one shard gets all of it; if it is the "
            "only input, its rows are divided among the shards"
        )


def _output_folder(options: PredictOptions) -> Path:
    folder = Path(os.path.abspath(local_path(options.output)))  # noqa: PTH100  without `..`
    is_file = not folder.is_dir() and (folder.exists() or known_format(folder) is not None)
    if options.output == "-" or is_file:
        what = "stdout" if options.output == "-" else "a file"
        raise ConfigError(
            f"output={options.output}: is {what}; several files, and shards, need a folder: "
            "output=<folder>"
        )
    return folder
