"""Divide files, or the rows of one file, among processes that know nothing of each other."""

import heapq
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

from rnn_lab.data.readers.binary import READ_ERRORS, open_binary, read_error
from rnn_lab.data.readers.formats import Format
from rnn_lab.data.readers.reading import BadRow, Record
from rnn_lab.data.readers.records import RecordReader
from rnn_lab.errors import DataError

_LINES: frozenset[Format] = frozenset({"txt", "csv", "tsv", "jsonl", "label_text"})
_BLOCK = 2**20  # bytes
MAX_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """One of `count` equal shares; the first has the index 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard that `shard=0/4` names. Raises ValueError if there is none."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise ValueError(f"shard={text}: give shard=<index>/<count>, as in shard=0/4")
        index, count = map(int, match.groups())
        if count > MAX_SHARDS:
            raise ValueError(f"shard={text}: there are at most {MAX_SHARDS:,} shards")
        if index >= count:
            choices = f"0/{count} to {count - 1}/{count}" if count else "0/1 and up"
            raise ValueError(f"shard={text}: shards are numbered from 0. Choose from: {choices}")
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def file_name(self) -> str:
        """The shard in the name of a file."""
        return f"{self.index:05d}-of-{self.count:05d}"


def divide(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Return for each of `count` shards the positions of its files, in order.

    The largest file comes first, and each goes to the shard with the fewest bytes so far. Equal
    sizes give equal shares, whoever computes them.
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    smallest = [(0, 0, index) for index in range(count)]  # bytes, files, shard
    for position in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        size, files, index = heapq.heappop(smallest)
        shares[index].append(position)
        heapq.heappush(smallest, (size + sizes[position], files + 1, index))
    return [sorted(share) for share in shares]


def rows_of_shard(reader: RecordReader, path: Path, shard: Shard) -> Iterator[Record | BadRow]:
    """Yield the rows of a file whose first line is in the shard's share of the lines.

    Every row is in one shard, and the shards in their order are the file. `reader` reads `path`,
    here twice.

    Raises:
        DataError: the file cannot be read.
    """
    total = _count_lines(reader, path)
    first, end = (1 + total * i // shard.count for i in (shard.index, shard.index + 1))
    last = math.inf if shard.index == shard.count - 1 else end - 1
    from_first = dropwhile(lambda row: row.line < first, reader)
    return takewhile(lambda row: row.line <= last, from_first)


def _count_lines(reader: RecordReader, path: Path) -> int:
    """Return about how many lines a file has, or rows, whichever `Record.line` counts."""
    next(iter(reader), None)  # which infers the format
    if reader.info.format not in _LINES:
        return sum(1 for _ in reader)
    try:
        with open_binary(path) as stream:
            blocks = iter(lambda: stream.read(_BLOCK), b"")
            return 1 + sum(block.count(b"\n") for block in blocks)
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read: {read_error(error)}") from error
