"""The pictures of the benchmarks show their results, on light and dark pages alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from benchmarks.contenders import OURS, PACKED, UNPACKED
from benchmarks.picture import (
    OURS_COLOUR,
    Curve,
    draw_learning_curves,
    draw_throughput,
    spread_out,
)
from rnn_lab.reports.plot_style import BLUE, ORANGE


def results(ours: float, load: str = "Quiet: ...") -> dict[str, Any]:
    """Return results with one model in two sizes."""
    rates = {OURS: ours, UNPACKED: 500.0, PACKED: 79.0}
    rows = [
        {
            "model": "lstm",
            "size": size,
            "directions": 1,
            "contender": name,
            "correct": name != UNPACKED,
            "reviews_per_second": rate * (1 if size == 128 else 50),
        }
        for size in (128, 256)
        for name, rate in rates.items()
    ]
    return {"machine": "A processor (avx2), 2 cores", "load": load, "rows": rows}


def pixels(path: Path, colour: str) -> int:
    """Return how many pixels of the picture have exactly that colour."""
    found = np.round(imread(path)[..., :3] * 255)
    return int((found == np.round(np.array(to_rgb(colour)) * 255)).all(axis=-1).sum())


def test_bars_have_the_lengths_of_the_results(tmp_path: Path) -> None:
    slow = draw_throughput(results(ours=250.0), tmp_path / "slow.png")
    fast = draw_throughput(results(ours=500.0), tmp_path / "fast.png")
    assert 1.8 < pixels(fast, OURS_COLOUR) / pixels(slow, OURS_COLOUR) < 2.2


def test_the_background_is_opaque(tmp_path: Path) -> None:
    picture = imread(draw_throughput(results(ours=700.0), tmp_path / "speed.png"))
    assert picture.shape[1] > 2 * 400
    assert picture.shape[2] == 3 or (picture[..., 3] == 1).all()
    assert (picture[0, 0, :3] == 1).all()


def test_a_busy_machine_shows(tmp_path: Path) -> None:
    quiet = draw_throughput(results(ours=700.0), tmp_path / "quiet.png")
    busy = draw_throughput(results(ours=700.0, load="**NOT QUIET**: ..."), tmp_path / "busy.png")
    assert quiet.read_bytes() != busy.read_bytes()


def curve(name: str, means: list[float], spread: float = 0.01) -> Curve:
    return Curve(name, [100, 1_000, 10_000], means, [spread] * 3, [3] * 3)


def test_learning_curves_have_a_colour_each_and_grow_with_their_spread(tmp_path: Path) -> None:
    curves = [curve("first", [0.6, 0.7, 0.8]), curve("second", [0.5, 0.75, 0.8])]
    one = draw_learning_curves(curves[:1], "IMDB", tmp_path / "one.png")
    both = draw_learning_curves(curves, "IMDB", tmp_path / "both.png")
    assert pixels(one, BLUE) > 200 and pixels(one, ORANGE) == 0
    assert pixels(both, BLUE) > 200 and pixels(both, ORANGE) > 200
    assert imread(both).shape[1] > 2 * 400
    single = [curve("first", [0.6, 0.7, 0.8], spread=0.0)]
    assert draw_learning_curves(single, "IMDB", tmp_path / "single.png").exists()


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.5, 0.1], [0.5, 0.1]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.9, 0.5, 0.52], [0.9, 0.46, 0.56]),
        ([0.3, 0.3, 0.38], [0.2266667, 0.3266667, 0.4266667]),
    ],
)
def test_labels_are_moved_apart(heights: list[float], expected: list[float]) -> None:
    assert spread_out(heights, 0.1) == pytest.approx(expected)
