"""Format tables for the terminal and for benchmarks/README.md."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rnn_lab.io.atomic import atomic_write


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def report(paragraphs: Sequence[str], markdown: Path | None) -> None:
    """Print the paragraphs, and write them to the file `markdown` if one is given."""
    text = "\n\n".join(paragraphs)
    print(text)
    if markdown is not None:
        with atomic_write(markdown) as file:
            file.write(text + "\n")
