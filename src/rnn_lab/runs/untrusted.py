"""Values of a result.json, which may come from anyone: one of another type is taken for absent."""

import math
from collections.abc import Mapping
from typing import Any


def get_group(content: Any, *names: str) -> Mapping[str, Any]:
    """Return a group within groups, {} where there is none."""
    for name in names:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content if isinstance(content, Mapping) else {}


def get_number(value: Any) -> float | None:
    """Return a finite number, None of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
