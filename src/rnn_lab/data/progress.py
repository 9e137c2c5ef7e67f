"""A progress bar on a terminal, and now and then a line elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")

_LONGEST_WAIT = 600  # seconds


class ProgressLines:
    """Lines of progress on stderr: after 1, 3, 7 and 15 minutes, then every ten."""

    def __init__(
        self, description: str, total: float | None, *, done: int = 0, first_wait: float = 60
    ) -> None:
        """Start the clock.

        Args:
            description: what each line begins with.
            total: of what there is to do; None or infinity: unknown.
            done: what was done before.
            first_wait: seconds until the first line; each wait is twice the one before.
        """
        self._description, self._total, self._done = description, total, done
        self._start, self._wait, self._next = time.monotonic(), first_wait, first_wait

    def advance(self, count: int) -> None:
        """Add to what is done."""
        self.update(self._done + count)

    def update(self, done: int) -> None:
        """Print a line about what is done, if it is time for one."""
        self._done = done
        seconds = time.monotonic() - self._start
        if seconds < self._next:
            return
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        self._next = seconds + self._wait
        total = self._total or math.inf
        share = f"{done:,}" if total == math.inf else f"{done / total:.0%}"
        line = f"{self._description}: {share} after {seconds / 60:.0f} min"
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(
    description: str, total: int | None, *, done: int = 0, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, or `ProgressLines` where stderr is no terminal.

    The caller passes each advance to the function that this yields.
    """
    if not sys.stderr.isatty():
        yield ProgressLines(description, total, done=done).advance
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
