"""Parquet, Arrow and data sets that Hugging Face's `save_to_disk` wrote -> rows, through pyarrow.

pyarrow is the optional extra `files`; the package `datasets` is not needed. None of these formats
can run code: pickled extension types are off in pyarrow since 14.0.1.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Literal

from rnn_lab.data.readers.binary import open_binary
from rnn_lab.errors import DataError, whole_message
from rnn_lab.plugins import require_extra

_BATCH_ROWS = 1024


class ArrowTable:
    """The columns of a Parquet or Arrow file, read in batches."""

    def __init__(self, source: str | Path | BinaryIO, format: Literal["parquet", "arrow"]) -> None:
        """Store where the table is; nothing is read."""
        self.name = str(source) if isinstance(source, str | Path) else "<stream>"
        require_extra("files", self.name, needs="pyarrow")
        self._source = source
        self._format = format

    def names(self) -> list[str]:
        """Return the names of the columns. Raises DataError for a damaged file."""
        with self._reading() as stack:
            schema, _ = self._open(stack)
            return list(schema.names)

    def types(self, columns: Sequence[str]) -> dict[str, Any]:
        """Return the pyarrow types of the values that `rows` gives, by column."""
        import pyarrow as pa

        with self._reading() as stack:
            schema, _ = self._open(stack)
            classes = _class_names(schema)
            return {
                name: pa.string() if name in classes else schema.field(name).type
                for name in columns
            }

    def rows(self, columns: Sequence[str]) -> Iterator[list[Any]]:
        """Yield the values of some columns, row by row; numbers of named classes as their names.

        Raises:
            DataError: the file is damaged.
        """
        with self._reading() as stack:
            schema, reader = self._open(stack)
            classes = _class_names(schema)
            for batch in reader(list(columns)):
                values = [batch.column(name).to_pylist() for name in columns]
                for name, column in zip(columns, values, strict=True):
                    if name in classes:
                        column[:] = [_class_name(classes[name], value) for value in column]
                yield from map(list, zip(*values, strict=True))

    def _reading(self) -> "_Reading":
        return _Reading(self.name)

    def _open(self, stack: ExitStack) -> tuple[Any, Any]:
        """Return the schema, and what yields batches of some columns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        stream = stack.enter_context(open_binary(self._source))
        if self._format == "parquet":
            file = pq.ParquetFile(stream)
            return file.schema_arrow, lambda names: file.iter_batches(_BATCH_ROWS, columns=names)
        magic = stream.read(6)
        stream.seek(0)
        if magic == b"ARROW1":
            blocks = pa.ipc.open_file(stream)
            return blocks.schema, lambda names: (
                blocks.get_batch(i).select(names) for i in range(blocks.num_record_batches)
            )
        batches = pa.ipc.open_stream(stream)
        return batches.schema, lambda names: (batch.select(names) for batch in batches)


class _Reading(ExitStack):
    """Turn pyarrow's errors into DataErrors."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __exit__(self, *error: Any) -> Any:
        import pyarrow as pa

        super().__exit__(*error)
        if isinstance(error[1], pa.ArrowException | OSError | EOFError | UnicodeDecodeError):
            message = f"{self._name}: cannot be read: {whole_message(error[1])}"
            raise DataError(message) from error[1]
        return None


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of the classes that Hugging Face's metadata has for integer columns."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: _names_of(feature) for name, feature in features.items()}
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
    return {
        name: names
        for name, names in found.items()
        if isinstance(names, list) and all(isinstance(item, str) for item in names)
    }


def _names_of(feature: Any) -> Any:
    """Return the names of a feature of classes; of a list, in either form, those of its items."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    elif isinstance(feature, dict):
        feature = feature.get("feature", feature)
    return feature.get("names") if isinstance(feature, dict) else None


def _class_name(names: Sequence[str], value: Any) -> Any:
    if isinstance(value, list):
        return [_class_name(names, item) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def is_saved_dataset(folder: Path) -> bool:
    """Return whether `save_to_disk` wrote the folder."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def saved_dataset_files(folder: Path, option: str) -> list[Path]:
    """Return the Arrow files of a data set that `save_to_disk` wrote, in order.

    Raises:
        DataError: the folder has several splits, or is damaged.
    """
    splits = _read_json(folder / "dataset_dict.json")
    if isinstance(splits, Mapping):
        names = splits.get("splits", [])
        paths = ", ".join(f"{folder}/{name}" for name in names)
        raise DataError(f"{folder}: has several splits; set {option} to one of: {paths}")
    state = _read_json(folder / "state.json")
    try:
        assert isinstance(state, Mapping)
        names = [file["filename"] for file in state["_data_files"]]
        assert names and all(Path(name).name == name for name in names)
    except (AssertionError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: state.json is damaged") from error
    if state.get("_indices_files"):
        raise DataError(
            f"{folder}: has rows in another order than its files (flatten_indices() before saving)"
        )
    return [folder / name for name in names]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
