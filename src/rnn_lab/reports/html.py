"""Load the templates of the HTML pages.

Names, values and texts on a page may be anything: templates escape them, and the pages'
Content-Security-Policy allows no address and no script but one given by its hash.
"""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def load_template(path: Path, **filters: Callable[..., Any]) -> Template:
    """Return the template at `path`, with `filters` beside Jinja's own."""
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(path.name)


def script_hash(script: str) -> str:
    """Return the hash of a script as a Content-Security-Policy names it."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
