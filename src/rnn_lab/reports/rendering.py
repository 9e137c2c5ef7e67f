"""Tables for the terminal and templates of HTML pages.

Names, values and texts may be anything: a table's cells are plain text, templates escape them, and
the pages' Content-Security-Policy allows no address and no script but one given by its hash.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rnn_lab.reports.formatting import format_count, format_percent

if TYPE_CHECKING:
    import jinja2


def make_table(title: str = "") -> Table:
    """Return an empty table with a bold title."""
    heading = Text(title, "bold") if title else None
    return Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD)


def print_lines(lines: Iterable[str], console: Console) -> None:
    """Print whole lines even in a narrow terminal: a wrapped path cannot be copied."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def render_template(path: Path, filters: Mapping[str, Callable[..., Any]], **contents: Any) -> str:
    """Return the page of the template at `path`, with `filters`, `percent` and `counted`."""
    import jinja2  # not before: a training run imports this module and writes no page

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_bytecode_cache(),
    )
    environment.filters |= {"percent": format_percent, "counted": format_count, **filters}
    return environment.get_template(path.name).render(contents)


@functools.cache
def _bytecode_cache() -> "jinja2.BytecodeCache":
    """Return a cache of compiled templates: of many pages, compiling is half of the time."""
    import jinja2

    compiled: dict[str, bytes] = {}

    class Cache(jinja2.BytecodeCache):
        def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
            if bucket.key in compiled:
                bucket.bytecode_from_string(compiled[bucket.key])

        def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
            compiled[bucket.key] = bucket.bytecode_to_string()

    return Cache()
