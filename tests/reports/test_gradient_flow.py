"""gradient_flow.csv is read exactly and plotted: a curve per step, axes per layer and direction."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.plot_style import save_png
from rnn_lab.reports.plots import draw_plots, plot_gradient_flow
from rnn_lab.runs.gradient_flow import read_gradient_flow
from tests.reports.conftest import write_gradient_flow

MakeRun = Callable[..., Path]


def test_curves_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "gradient_flow.csv").write_text(
        "step,layer,direction,distance,norm,examples\n"
        "0,0,forward,0,0.5,32\n0,0,forward,1,0.25,30\n"
        "0,0,backward,0,1e-200,32\n0,0,backward,1,0.0,30\n"
        "56,0,forward,0,2.5,32\n56,0,forward,1,nan,30\n"
    )
    first, backward, last = read_gradient_flow(tmp_path)
    assert (first.step, first.layer, first.direction) == (0, 0, "forward")
    assert (backward.step, backward.direction, last.step) == (0, "backward", 56)
    np.testing.assert_array_equal(first.distances, [0, 1])
    np.testing.assert_array_equal(first.norms, [0.5, 0.25])
    np.testing.assert_array_equal(backward.norms, [1e-200, 0])
    np.testing.assert_array_equal(last.norms, [2.5, np.nan])


def test_a_curve_ends_where_few_texts_are_so_long(tmp_path: Path) -> None:
    (tmp_path / "gradient_flow.csv").write_text(
        "step,layer,direction,distance,norm,examples\n"
        "0,0,forward,0,0.5,32\n0,0,forward,1,0.25,8\n0,0,forward,2,0.9,7\n"
        "9,0,forward,0,0.5,3\n9,0,forward,1,0.25,1\n9,0,forward,2,0.2,1\n"
    )
    first, last = read_gradient_flow(tmp_path)
    np.testing.assert_array_equal(first.distances, [0, 1])
    np.testing.assert_array_equal(first.norms, [0.5, 0.25])
    np.testing.assert_array_equal(last.distances, [0, 1, 2])


def test_a_run_that_measured_none_has_none(tmp_path: Path) -> None:
    assert read_gradient_flow(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("step,layer,direction,distance,examples\n0,0,forward,0,3\n", "no column 'norm'"),
        ("step,layer,direction,distance,norm\n0,0,forward,0,x\n", r"csv:2: 'x' is not a number"),
        ("step,layer,direction,distance,norm\n0,0,forward,0,0.5", "truncated in its last line"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "gradient_flow.csv").write_text(text)
    with pytest.raises(CheckpointError, match=says):
        read_gradient_flow(tmp_path)


@pytest.mark.parametrize("moments", [1, 2, 30])
def test_a_curve_per_step(tmp_path: Path, moments: int) -> None:
    write_gradient_flow(tmp_path, steps=[7 * i for i in range(moments)], distances=50)
    flows = read_gradient_flow(tmp_path)
    (axes,) = plot_gradient_flow("a run", flows).axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == 50]
    assert axes.get_yscale() == "log"
    assert len(curves) == moments
    for curve, flow in zip(curves, flows, strict=True):
        np.testing.assert_array_equal(curve.get_ydata(), flow.norms)
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(named) == min(moments, 6)
    assert (named[0], named[-1]) == ("0", f"{7 * (moments - 1)}")


def test_axes_per_layer_and_direction(tmp_path: Path) -> None:
    write_gradient_flow(tmp_path, layers=2, directions=("forward", "backward"))
    figure = plot_gradient_flow("a run", read_gradient_flow(tmp_path))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"Layer {n}, {way}" for n in (1, 2) for way in ("forward", "backward")]
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == [
        "tokens to the last token, of a quarter of the texts or more",
        "tokens to the first token, of a quarter of the texts or more",
    ]


@pytest.mark.parametrize("rate", [0.5, 1e-3, 0.0, 1.1])
def test_vanished_and_exploding_gradients_are_plotted(tmp_path: Path, rate: float) -> None:
    write_gradient_flow(tmp_path, rate=rate, distances=400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plot_gradient_flow("a run", read_gradient_flow(tmp_path))
        save_png(figure, tmp_path / "flow.png")
    lowest, highest = figure.axes[0].get_ylim()
    assert 1e-39 < lowest < 0.3 < highest
    words = "\n".join(text.get_text() for text in figure.findobj(Text))
    assert ("below this, float32 underflows" in words) == (rate in (0.5, 1e-3))


def test_it_is_among_the_plots_of_a_run(make_run: MakeRun) -> None:
    run = make_run(examples=30)
    write_gradient_flow(run)
    assert run / "plots" / "gradient_flow.png" in draw_plots(run)
    height, width, _ = imread(run / "plots" / "gradient_flow.png").shape
    assert 800 < width < 1300 and 400 < height < 700
