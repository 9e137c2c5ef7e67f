"""A progress bar on a terminal, nothing elsewhere."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


@contextmanager
def progress_bar(
    description: str, total: int | None, *, done: int = 0, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar; the caller passes each advance to the function that this yields."""
    if not sys.stderr.isatty():
        yield lambda advance: None
        return
    from rich import progress
    from rich.console import Console

    amount = (
        (progress.DownloadColumn(), progress.TransferSpeedColumn())
        if in_bytes
        else (progress.MofNCompleteColumn(),)
    )
    columns = (progress.TextColumn(description), progress.BarColumn(), *amount)
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=done)
        yield lambda advance: bar.advance(task, advance)


def with_progress(items: Iterable[_T], description: str) -> Iterator[_T]:
    """Yield each item, with a progress bar."""
    with progress_bar(description, None) as advance:
        for item in items:
            yield item
            advance(1)
