"""What the page of a run shows of the test split: curves, confusions, lengths and classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnn_lab.reports.evaluation_curves import (
    MACRO,
    Curve,
    class_curves,
    length_bins,
    make_curve,
    reliability,
    wilson_interval,
    without_temperature,
)
from rnn_lab.reports.formatting import is_multilabel
from rnn_lab.reports.run import charts
from rnn_lab.reports.run.part_reader import PartReader
from rnn_lab.runs.predictions import Predictions
from rnn_lab.runs.untrusted import get_group, get_number

MAX_CLASSES = 200  # in the table of classes
MAX_CELLS = 12  # classes of a confusion matrix that is a table with numbers
MAX_MATRIX = 150  # classes of one that is drawn
MAX_CONFUSIONS = 15


def describe_evaluation(
    parts: PartReader, result: dict[str, Any], predictions: Predictions | None
) -> dict[str, Any]:
    """Return what is drawn and listed of the test split."""
    areas: dict[str, Curve] = {}
    contents: dict[str, Any] = {
        "matrix": None, "confusions": [], "curves": [], "calibration": [],
        "curves_omitted": 0,
        "calibration_error": None, "uncalibrated_error": None, "temperature": None,
        "lengths": [], "num_tested": 0,
        "is_multilabel": is_multilabel(result),
    }  # fmt: skip
    if predictions is not None:
        found = predictions
        curves = parts.read("ROC and precision-recall", lambda: class_curves(found), [])
        areas = parts.read("classes", lambda: _areas(found, curves), {})
        contents["curves"] = parts.read("ROC", lambda: charts.curve_charts(curves), [])
        contents["curves_omitted"] = max(0, len(curves) - 1 - charts.MAX_FAINT)
        contents["lengths"] = parts.read("accuracy by length", lambda: _lengths(found), [])
        contents["num_tested"] = len(found.names)
        contents["is_multilabel"] = found.is_multilabel
        if not found.is_multilabel:
            contents |= parts.read("confusion matrix", lambda: _confusion(found), {})
            contents |= parts.read("calibration", lambda: _calibration(result, found), {})
    empty: dict[str, Any] = {"classes": [], "more_classes": 0}
    return contents | parts.read("classes", lambda: _classes(result, areas), empty)


def _confusion(predictions: Predictions) -> dict[str, Any]:
    names = predictions.class_names
    size = len(names)
    pairs = predictions.labels * size + predictions.predicted
    found, counts = np.unique(pairs, return_counts=True)
    rows, columns = found // size, found % size
    totals = np.bincount(predictions.labels, minlength=size)
    cells = [
        {
            "row": int(row), "column": int(column), "count": int(count),
            "share": float(count / totals[row]),
        }
        for row, column, count in zip(rows, columns, counts, strict=True)
    ]  # fmt: skip
    wrong = [cell for cell in cells if cell["row"] != cell["column"]]
    wrong.sort(key=lambda cell: -cell["count"])
    return {
        "matrix": {
            "names": names,
            "cells": cells,
            "at": {(cell["row"], cell["column"]): cell for cell in cells},
            "is_table": size <= MAX_CELLS,
            "is_drawn": size <= MAX_MATRIX,
            "totals": totals.tolist(),
        },
        "confusions": wrong[:MAX_CONFUSIONS] if size > 2 else [],
    }


def _calibration(result: dict[str, Any], predictions: Predictions) -> dict[str, Any]:
    bins, before = reliability(predictions), None
    temperature = get_number(get_group(result, "calibration").get("temperature"))
    if temperature is not None and temperature > 0 and temperature != 1.0:
        before = reliability(without_temperature(predictions, temperature))
    return {
        "calibration": charts.calibration_charts(bins, len(predictions.class_names), before),
        "calibration_error": bins.error,
        "uncalibrated_error": None if before is None else before.error,
        "temperature": temperature,
    }


def _lengths(predictions: Predictions) -> list[dict[str, Any]]:
    greatest, position = length_bins(predictions.lengths)
    rows = []
    for i in range(len(greatest)):
        inside = position == i
        hits, count = predictions.correct[inside].sum(), inside.sum()
        low, high = wilson_interval(np.array([hits]), np.array([count]))
        least, most = int(predictions.lengths[inside].min()), int(greatest[i])
        rows.append(
            {
                "tokens": f"{least:,} to {most:,}" if least < most else f"{least:,}",
                "count": int(count),
                "accuracy": float(hits / count),
                "low": float(low[0]),
                "high": float(high[0]),
            }
        )
    return rows


def _areas(predictions: Predictions, curves: Sequence[Curve]) -> dict[str, Curve]:
    """Return the curve of each class that has one; of two classes, `curves` are the second's."""
    areas = {curve.name: curve for curve in curves if curve.name != MACRO}
    if len(curves) == 1 and not predictions.is_multilabel:
        first = predictions.class_names[0]
        areas[first] = make_curve(first, predictions.labels == 0, predictions.probabilities[:, 0])
    return areas


def _classes(result: Mapping[str, Any], areas: Mapping[str, Curve]) -> dict[str, Any]:
    per_class, thresholds = get_group(result, "per_class"), get_group(result, "thresholds")
    rows = []
    for name in list(per_class)[:MAX_CLASSES]:
        scores, area = get_group(per_class, name), areas.get(name)
        values = {key: get_number(scores.get(key)) for key in ("precision", "recall", "f1")}
        row = {
            "name": name,
            **values,
            "support": get_number(scores.get("support")),
            "threshold": get_number(thresholds.get(name)),
            "auroc": None if area is None else area.auroc,
            "average_precision": None if area is None else area.average_precision,
        }
        rows.append(row)
    return {"classes": rows, "more_classes": max(0, len(per_class) - MAX_CLASSES)}
