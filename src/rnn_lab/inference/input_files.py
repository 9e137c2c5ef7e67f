"""The files that `input` of predict names: files, patterns and folders."""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rnn_lab.data.readers.arrow import is_saved_dataset, saved_dataset_files
from rnn_lab.data.readers.formats import known_format
from rnn_lab.data.sources.file_sets import files_below
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.paths import local_path

_DIGITS = 8  # of the hash in a name that two files would share


@dataclass(frozen=True)
class InputFile:
    """One file to label. `name` is that of its output, which may be in a folder, without ending."""

    path: Path
    name: str
    size: int  # bytes; 0 if the file cannot be found any more
    mtime_ns: int


def names_several(source: str) -> bool:
    """Return whether an input is a pattern or a folder, and not one file or stdin."""
    path = local_path(source)
    return source != "-" and not path.is_file() and (path.is_dir() or glob.has_magic(source))


def find_input_files(inputs: Sequence[str], output: Path, *, any_ending: bool) -> list[InputFile]:
    """Return the files of `inputs` in a fixed order, each once, without those in `output`.

    Of a folder, the files whose ending names a format, at any depth, and broken links to such;
    hidden files, pipes and devices are left out. The names of the outputs are those of the inputs,
    relative to the folder or to the part of the pattern before its first wildcard. Names that would
    be equal get a hash of the path.

    Args:
        inputs: files, patterns as of the shell with `**` for folders at any depth, and folders.
        output: the folder of the predictions.
        any_ending: whether all files of a folder count.

    Raises:
        ConfigError: `output` is one of the folders.
        DataError: an input does not exist, or there are no files.
    """
    found: dict[Path, str] = {}
    place = output.resolve()
    for source in inputs:
        if local_path(source).resolve() == place:
            raise ConfigError(f"output={output}: is the input folder; choose another folder")
        files, base = _files_of(source, any_ending=any_ending)
        origin = base.resolve()
        for file in files:
            name = file.relative_to(base)
            if not (origin / name).is_relative_to(place):
                found.setdefault(Path(os.path.abspath(file)), name.as_posix())  # noqa: PTH100
    if not found:
        raise DataError(f"input={_shown(inputs)}: no files to label")
    times = Counter(found.values())
    return [
        _input_file(path, name if times[name] == 1 else _unique(path, name))
        for path, name in found.items()
    ]


def _files_of(source: str, *, any_ending: bool) -> tuple[list[Path], Path]:
    """Return the files that one input names, and the folder that their names begin at."""
    path = local_path(source)
    if path.is_dir():
        if is_saved_dataset(path):
            return saved_dataset_files(path, "input"), path
        named = (f for f in files_below(path) if any_ending or known_format(f) is not None)
        return [file for file in named if file.is_file() or not file.exists()], path
    if not names_several(source):
        if not path.is_file():
            what = "not a regular file" if path.exists() else "no such file or folder"
            raise DataError(f"input={source}: {what}")
        return [path], path.parent
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207  expands **
    files = [match for match in matches if match.is_file()]
    if not files:
        raise DataError(f"input={source}: matches no file")
    return files, Path(*_before_wildcard(path))


def _before_wildcard(path: Path) -> Iterator[str]:
    for part in path.parts:
        if glob.has_magic(part):
            return
        yield part


def _input_file(path: Path, name: str) -> InputFile:
    try:
        found = path.stat()
    except OSError:  # reading it says why
        return InputFile(path, name, 0, 0)
    return InputFile(path, name, found.st_size, found.st_mtime_ns)


def _unique(path: Path, name: str) -> str:
    return f"{name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:_DIGITS]}"


def _shown(inputs: Sequence[str]) -> str:
    return inputs[0] if len(inputs) == 1 else f"[{','.join(inputs)}]"
