"""Every plot is drawn, names its run and shows the numbers in the run's files."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from rnn_lab.errors import CheckpointError
from rnn_lab.reports import plots
from rnn_lab.runs.metrics import read_metrics
from rnn_lab.runs.predictions import Predictions, read_predictions

MakeRun = Callable[..., Path]
NAMES = [
    "learning_curves",
    "confusion_matrix",
    "roc_and_precision_recall",
    "length_and_accuracy",
    "calibration",
]


def words(figure: Any) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def line(axes: Any, label: str) -> Any:
    (found,) = (line for line in axes.lines if line.get_label().startswith(label))
    return found


def draw(run: Path) -> list[Path]:
    """Draw the plots of a run without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = plots.draw_plots(run)
    assert paths == [run / "plots" / f"{name}.png" for name in NAMES]
    assert sorted((run / "plots").iterdir()) == sorted(paths)
    for path in paths:
        with Image.open(path) as image:
            width, height = image.size
            image.verify()
        assert 500 < width < 1500 and 400 < height < 1300, path.name
    return paths


@pytest.mark.parametrize(
    "options",
    [
        {"examples": 3, "epochs": 1, "class_names": (r"$\frac$", "100 %", "c")},
        {"examples": 300, "class_names": tuple(f"a rather long class name {i}" for i in range(12))},
        {"examples": 78, "class_names": tuple(f"class {i}" for i in range(26))},
        {"examples": 1, "epochs": 1, "best_epoch": None},
    ],
    ids=["tiny, odd names", "many", "too many to label", "one example"],
)
def test_every_plot_is_drawn(make_run: MakeRun, options: dict[str, Any]) -> None:
    draw(make_run(**options))


def test_plots_name_their_run(make_run: MakeRun) -> None:
    model = {"name": "lstm", "bidirectional": True}
    data = {"source": "demo", "name": "demo"}
    demo = make_run("demo", examples=50, synthetic=True, model=model, data=data)
    for run, title in (
        (make_run(examples=50), "GRU on IMDB reviews, seed 1"),
        (demo, "bidirectional LSTM on synthetic demo reviews, seed 1"),
    ):
        figures = plots.make_plots(run)
        assert list(figures) == NAMES
        assert all(title in words(figure) for figure in figures.values())


def test_learning_curves_mark_the_best_epoch(make_run: MakeRun) -> None:
    metrics = read_metrics(make_run(examples=3, epochs=6))
    figure = plots.plot_learning_curves("a run", metrics, 4)
    loss, accuracy, rate, norm = figure.axes
    expected = 0.3 + 0.4 * 0.5 ** np.arange(6) + 0.02 * np.maximum(0, np.arange(6) - 2)
    np.testing.assert_allclose(line(loss, "validation").get_ydata(), expected)
    np.testing.assert_allclose(line(loss, "best epoch").get_xydata(), [[4, expected[4]]])
    np.testing.assert_allclose(
        line(accuracy, "best epoch").get_xydata(), [[4, 1.05 - expected[4] / 2]]
    )
    assert rate.lines[0].get_ydata().max() == pytest.approx(2e-3, rel=0.1)
    assert len(norm.lines[0].get_xdata()) == 48
    assert f"best epoch 4, validation accuracy {100 * (1.05 - expected[4] / 2):.1f} %" in words(
        figure
    )


def test_learning_curves_need_no_learning_rate_or_gradient_norm(make_run: MakeRun) -> None:
    metrics = read_metrics(make_run(examples=3))
    del metrics["grad_norm"]
    assert len(plots.plot_learning_curves("a run", metrics, 1).axes) == 3
    del metrics["lr"]
    assert len(plots.plot_learning_curves("a run", metrics, 1).axes) == 2


def test_confusion_matrix_shows_counts_and_row_percentages(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text(
        "name,label,prediction,length,loss,probability_neg,probability_pos\n"
        + "a,neg,neg,5,0.1,0.9,0.1\n" * 1500
        + "b,neg,pos,5,1.6,0.2,0.8\n" * 500
        + "c,pos,pos,5,0.2,0.2,0.8\n" * 4
    )
    figure = plots.plot_confusion_matrix("a run", read_predictions(tmp_path))
    (axes,) = figure.axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    # (predicted class, true class); a cell without examples has no text
    assert cells == {(0, 0): "1,500\n75.0 %", (1, 0): "500\n25.0 %", (1, 1): "4\n100.0 %"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["neg", "pos"]
    assert "75.0 % of 2,004 test examples correct" in words(figure)


def test_roc_and_precision_recall_name_areas_and_base_rate(make_run: MakeRun) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    test = read_predictions(make_run(examples=700))
    left, right = plots.plot_roc_and_precision_recall("a run", test).axes
    scores = test.probabilities[:, 1]
    assert f"pos: {roc_auc_score(test.labels, scores):.3f}" in words(left.get_legend())
    legend = words(right.get_legend())
    assert f"pos: {average_precision_score(test.labels, scores):.3f}" in legend
    assert f"base rate: {test.labels.mean():.3f}" in legend


def test_a_test_split_of_one_class_has_no_curve_and_says_so(make_run: MakeRun) -> None:
    text = words(
        plots.plot_roc_and_precision_recall("a run", read_predictions(make_run(examples=1)))
    )
    assert "all test examples\nhave the same class" in text


def test_accuracy_by_length_counts_every_review_once(make_run: MakeRun) -> None:
    test = read_predictions(make_run(examples=5000))
    upper, lower = plots.plot_length_and_accuracy("a run", test).axes
    counts = np.array([bar.get_height() for bar in lower.patches])
    assert counts.sum() == 5000
    assert (np.abs(counts - 500) < 60).all()
    accuracy = upper.lines[0].get_ydata()
    assert (accuracy * counts).sum() == pytest.approx(test.correct.sum())
    shortest = test.correct[test.lengths <= np.quantile(test.lengths, 0.1)].mean()
    assert accuracy[0] == pytest.approx(shortest)
    assert accuracy[0] > accuracy[-1] + 0.05
    assert f"median: {np.median(test.lengths):,.10g} tokens" in words(upper.figure)


@pytest.mark.parametrize(
    ("lengths", "x"),
    [
        ([7] * 4 + [8] * 6 + [9] * 3, 1),  # in the middle of the bin of 8
        ([7] * 5 + [9] * 5, 0.5),  # 8, between the bins of 7 and of 9
        ([1, 2, 3, 4, 5], 2),
    ],
)
def test_the_median_is_in_the_bin_of_its_length(lengths: list[int], x: float) -> None:
    n = len(lengths)
    labels = np.arange(n) % 2
    test = Predictions(
        ("no", "yes"),
        list(map(str, range(n))),
        labels,
        labels,
        np.array(lengths),
        np.zeros(n),
        np.full((n, 2), 0.5),
    )
    for axes in plots.plot_length_and_accuracy("a run", test).axes:
        (line,) = (line for line in axes.lines if line.get_linestyle() == "--")
        assert list(line.get_xdata()) == pytest.approx([x, x])
        for count in axes.texts if axes.patches else ():
            background = count.get_bbox_patch()
            assert background is not None and background.get_facecolor() == (1, 1, 1, 1)
            assert count.get_zorder() > line.get_zorder()


def test_runs_can_be_plotted_in_parallel_and_over_old_plots(make_run: MakeRun) -> None:
    runs = [make_run(str(i), examples=100, seed=i) for i in range(2)]
    alone = [path.read_bytes() for path in draw(runs[0])]
    (runs[0] / "plots" / "calibration.png").write_bytes(b"old")
    with ThreadPoolExecutor() as pool:
        together = list(pool.map(plots.draw_plots, runs))
    first, second = [[path.read_bytes() for path in paths] for paths in together]
    assert first == alone
    assert second != alone


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"result\.json: no such file"):
        plots.draw_plots(tmp_path)
    assert list(tmp_path.iterdir()) == []
