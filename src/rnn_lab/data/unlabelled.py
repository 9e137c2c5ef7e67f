"""The texts without labels that data.unlabelled names."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rnn_lab.data.corpus import UnlabelledTexts, stat_key
from rnn_lab.data.options import TextOptions
from rnn_lab.data.readers.config import ReadConfig, read_options
from rnn_lab.data.readers.formats import known_format
from rnn_lab.data.readers.reading import ReadOptions
from rnn_lab.data.readers.records import EMPTY_TEXT, BadRow, RecordReader
from rnn_lab.errors import DataError
from rnn_lab.paths import local_path

# The options of data=files that say how a file is read. Not its format: the ending says it.
_READING = ("encoding", "header", "columns", "delimiter", "quotechar", "text_column")


def find_unlabelled(config: TextOptions) -> UnlabelledTexts | None:
    """Return the texts of `data.unlabelled`.

    Files are read as those of predict.py: the format is that of the ending, and the column of the
    texts is data.text_column or inferred. The other options of data=files that describe a table
    hold for them too. Blank lines are skipped.

    Raises:
        DataError: a file is missing. When the texts are read: a file is malformed, or a row is and
            data.on_bad_lines is not "skip".
    """
    named = config.unlabelled
    if named is None:
        return None
    if named is True:
        return config.own_unlabelled()
    assert not isinstance(named, bool)
    files = [local_path(path) for path in ([named] if isinstance(named, str) else named)]
    for file in files:
        if not file.is_file():
            raise DataError(f"data.unlabelled={file}: no such file")
        if known_format(file) is None:
            raise DataError(f"data.unlabelled={file}: unknown file ending")
    options = ReadOptions(prefix="data.")
    if isinstance(config, ReadConfig):
        options = replace(read_options(config, prefix="data."), format=None, label_column=None)
    skips = getattr(config, "on_bad_lines", "error") == "skip"
    settings: dict[str, Any] = {name: getattr(config, name, None) for name in _READING}
    key = stat_key([file.absolute() for file in files], f"{sorted(settings.items())} {skips}")
    return UnlabelledTexts(key, lambda: _read(files, options, skips=skips))


def _read(files: list[Path], options: ReadOptions, *, skips: bool) -> Iterator[str]:
    for file in files:
        for record in RecordReader(file, options, labelled=False):
            if not isinstance(record, BadRow):
                yield record.text
            elif record.reason != EMPTY_TEXT and not skips:
                raise DataError(
                    f"{file}:{record.line}: {record.reason} (data.on_bad_lines=skip skips such "
                    "rows of data=files)"
                )
