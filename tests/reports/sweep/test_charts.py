"""Axes place every value inside, in order, with ticks that do not overlap."""

from typing import Any

import numpy as np
import pytest

from rnn_lab.reports.axes import MIN_TICK_SPACING, epoch_axis, metric_axis
from rnn_lab.reports.sweep.charts import option_axis
from rnn_lab.runs.run_config import ABSENT


@pytest.mark.parametrize(
    "values",
    [
        [1],
        ["lstm", "gru"],
        [None, 2, 5],
        [0.1, 0.2, 0.3],
        [10.0 ** (-i / 4) for i in range(16)],
        [ABSENT, None, True, False, "a", -1, 0, 3.5],
        [f"word {i}" for i in range(200)],
        list(range(100)),
    ],
    ids=["one", "words", "null", "linear", "log", "mixed", "many words", "many numbers"],
)
def test_values_are_inside_and_ticks_apart(values: list[Any]) -> None:
    axis = option_axis(values, 400, 64)
    positions = [axis.position(value) for value in values]
    assert all(64 - 1e-9 <= position <= 400 + 1e-9 for position in positions)
    assert len({round(position, 6) for position in positions}) == len(values)
    ticks = np.array([tick.position for tick in axis.ticks])
    assert (np.abs(np.diff(ticks)) >= min(MIN_TICK_SPACING, 336 / len(values)) - 1e-9).all()


def test_numbers_are_sorted_above_words() -> None:
    axis = option_axis([5, None, 2, "a", ABSENT, True, 3], 400, 64)
    order = [ABSENT, None, True, "a", 2, 3, 5]
    assert sorted(order, key=axis.position, reverse=True) == order
    assert [tick.full_label for tick in axis.ticks] == [ABSENT, "null", "true", "a", "2", "3", "5"]


def test_orders_of_magnitude_need_a_logarithmic_scale() -> None:
    axis = option_axis([1e-4, 1e-3, 1e-2], 0, 100)
    assert axis.logarithmic and axis.position(1e-3) == pytest.approx(50)
    assert not option_axis([1, 2, 3], 0, 100).logarithmic
    assert not option_axis([0, 0.001, 1], 0, 100).logarithmic


def test_metrics_and_epochs_have_round_ticks() -> None:
    accuracy = metric_axis([0.81, 0.93], "val/accuracy", 0, 100)
    assert [tick.label for tick in accuracy.ticks][:2] == ["82 %", "84 %"]
    assert (accuracy.position(0.81), accuracy.position(0.93)) == (0, pytest.approx(100))
    loss = metric_axis([0.5], "val/loss", 0, 100)
    assert loss.position(0.5) == pytest.approx(50)
    for metric, value in (("val/accuracy", 1.0), ("val/f1", 0.0)):
        labels = [tick.label for tick in metric_axis([value] * 2, metric, 0, 100).ticks]
        assert f"{value:.0%}".replace("%", " %") in (labels[0], labels[-1])
    assert [tick.label for tick in epoch_axis(30, 0, 100).ticks] == [
        str(e) for e in range(0, 31, 5)
    ]
    assert epoch_axis(0, 0, 100).position(0) == 50
