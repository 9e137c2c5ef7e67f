"""Files that are one text each, as the rows of one table."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rnn_lab.data.readers.formats import known_format
from rnn_lab.data.readers.records import BadRow, ReadInfo, Record
from rnn_lab.errors import DataError
from rnn_lab.inference.input_files import InputFile, find_input_files
from rnn_lab.inference.labelling import OUTPUTS
from rnn_lab.inference.run_loader import LazyRun
from rnn_lab.paths import local_path


class Documents:
    """One row for each file: its number from 1 is the line, and its name the id."""

    info = ReadInfo("txt", whole_files=True)

    def __init__(self, run: LazyRun, files: Sequence[InputFile]) -> None:
        self._run, self._files = run, files

    def __iter__(self) -> Iterator[Record | BadRow]:
        """Yield the rows, in the order of the files."""
        for number, file in enumerate(self._files, start=1):
            row: Record | BadRow
            try:
                (row,) = self._run.reader(file.path)
            except DataError as error:
                row = BadRow(number, str(error).removeprefix(f"{file.path}: "))
            name = file.name.encode("utf-8", "replace").decode()  # any bytes name a file
            yield replace(row, line=number, id=name)


def find_documents(run: LazyRun) -> Documents | None:
    """Return the files of several inputs as rows of one table.

    None where `output` is no table, or where some of the files are tables themselves.

    Raises:
        UserError: an input does not exist, or the run cannot be used.
    """
    options = run.options
    output = local_path(options.output)
    is_table = options.output == "-" or Path(options.output).suffix.lower() in OUTPUTS
    if not is_table or output.is_dir() or options.is_divided or not run.reads_whole_files:
        return None
    files = find_input_files(options.inputs, output, any_ending=options.any_ending)
    if not options.any_ending and any(known_format(file.path) != "txt" for file in files):
        return None
    return Documents(run, files) if options.format in (None, "txt") else None
