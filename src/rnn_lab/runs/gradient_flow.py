"""gradient_flow.csv: how far back the gradient reached."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnn_lab.runs.csv_table import CsvTable

LEAST_SHARE = 0.25  # of the examples of a curve


@dataclass(frozen=True)
class GradientFlowCurve:
    """The norm of dL/dh_t by distance from the end, measured at one optimizer step."""

    step: int  # optimizer steps done
    layer: int  # from 0, the lowest
    direction: str  # "forward" or "backward"
    distances: np.ndarray  # int64 [distances], time steps to the last one that the direction reads
    norms: np.ndarray  # float64 [distances], means over examples


def read_gradient_flow(run_folder: Path) -> list[GradientFlowCurve]:
    """Return gradient_flow.csv, the earliest step first; [] if the run did not measure it.

    Each curve ends where fewer than LEAST_SHARE of the examples are so long: means over few jump.
    """
    path = run_folder / "gradient_flow.csv"
    if not path.exists():
        return []
    table = CsvTable(path, ("step", "layer", "direction", "distance", "norm"))
    whole = (table.numbers(name).astype(np.int64) for name in ("step", "layer", "distance"))
    steps, layers, distances = whole
    norms = table.numbers("norm")
    rows: dict[tuple[int, int, str], list[int]] = {}
    keys = zip(steps.tolist(), layers.tolist(), table.columns["direction"], strict=True)
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    examples = table.numbers("examples") if "examples" in table.columns else np.ones(len(norms))
    curves = []
    for key, found in rows.items():
        kept = np.array(found)[examples[found] >= LEAST_SHARE * examples[found].max()]
        curves.append(GradientFlowCurve(*key, distances[kept], norms[kept]))
    return curves


def by_place(flows: Iterable[GradientFlowCurve]) -> dict[tuple[int, str], list[GradientFlowCurve]]:
    """Group gradient flows by layer and direction, steps in the order given."""
    places: dict[tuple[int, str], list[GradientFlowCurve]] = {}
    for flow in flows:
        places.setdefault((flow.layer, flow.direction), []).append(flow)
    return places
