"""A run's metrics are shown on any terminal or none; two runs are compared and explained."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rnn_lab.reports.run_summary import (
    baseline_lines,
    compare_runs,
    print_comparison,
    print_run,
)
from rnn_lab.runs.result_json import diff_options

MakeRun = Callable[..., Path]


def printed(run: Path, width: int = 80, **options: object) -> str:
    file = io.StringIO()
    print_run(run, Console(file=file, width=width, **options))
    return file.getvalue()


def row(text: str, name: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.strip().startswith(name))
    return line.split(name)[1].replace(" %", "").split()


def test_validation_and_test_are_side_by_side(make_run: MakeRun) -> None:
    run = make_run(examples=3)
    text = printed(run)
    assert "GRU on IMDB reviews, seed 1" in text
    assert text.index("validation") < text.index("test")
    assert row(text, "accuracy") == ["90.12", "89.12"]
    assert row(text, "F1 (macro)") == ["90.08", "89.08"]
    assert row(text, "AUROC") == ["0.9623", "0.9523"]
    assert row(text, "loss") == ["0.2581", "0.2481"]
    assert row(text, "calibration error") == ["0.0213", "0.0113"]
    assert "best epoch: 3" in text
    assert "1,234 training examples/s" in text
    assert "3 min 7 s" in text


def test_a_note_says_that_thresholds_of_the_splits_differ(make_run: MakeRun) -> None:
    note = "those of test are at the thresholds that validation chose."
    assert note not in printed(make_run(), width=200)
    data = {"name": "files", "task": "multilabel"}
    assert note in printed(make_run(name="several", data=data), width=200)


def test_an_evaluation_has_no_validation(make_run: MakeRun) -> None:
    text = printed(make_run(examples=3, checkpoint="best.ckpt", data={"name": "files"}))
    assert "validation" not in text
    assert row(text, "accuracy") == ["89.12"]
    assert "GRU on files, seed 1" in text


def test_plain_text_without_a_terminal(make_run: MakeRun) -> None:
    assert "\x1b" not in printed(make_run(examples=3))
    assert "\x1b" in printed(make_run("other", examples=3), force_terminal=True)


def test_the_path_is_not_wrapped_in_a_narrow_terminal(make_run: MakeRun) -> None:
    run = make_run("a long [bold]name[/bold] " * 5, examples=3)
    assert f"Run folder: {run}\n" in printed(run, width=40)


def test_synthetic_reviews_are_named_so(make_run: MakeRun) -> None:
    demo = {"source": "auto", "name": "demo"}
    asked = printed(make_run("asked", examples=3, synthetic=True, data=demo))
    assert "synthetic demo reviews" in asked
    assert "IMDB" not in asked
    fallback = printed(
        make_run("fallback", examples=3, synthetic=True, demo_fallback=True, data=demo)
    )
    assert "synthetic demo reviews" in fallback
    assert "not of IMDB" in fallback


def test_a_run_that_loses_is_told_what_may_help() -> None:
    result: dict[str, Any] = {
        **{"test/accuracy": 0.85, "test/f1": 0.95, "best_epoch": 4, "epochs": 10},
        "baseline": {"tfidf": {"test/accuracy": 0.9, "test/f1": 0.9}},
        "model": {"ngrams": 0, "pooling": "max", "bidirectional": True},
        "data": {"options": {"batch_size": 16, "vectors": None}},
    }
    *_, line = baseline_lines(result)
    assert "accuracy by 5.00 points to TF-IDF" in line
    assert "F1" not in line
    assert line.endswith(
        "Most likely to help: model.ngrams=2, "
        "texts without labels with data.vectors=skipgram data.unlabelled=<file>"
    )
    *_, line = baseline_lines(result | {"best_epoch": 9})
    assert "Most likely to help: more epochs with trainer.max_epochs, model.ngrams=2" in line
    (line,) = baseline_lines(result | {"test/accuracy": 0.95})
    assert "loses" not in line
    rounded = {"test/accuracy": 0.8999999, "test/f1": 0.9}
    (line,) = baseline_lines(result | rounded)  # equal, but in float32
    assert "loses" not in line
    scores = result["baseline"] | {"nbsvm": {"test/accuracy": 0.86, "test/f1": 0.8}}
    _, line, loses = baseline_lines(result | {"baseline": scores})
    assert line == "NB-SVM, test: accuracy 86.00 %, F1 (macro) 80.00 %"
    assert "accuracy by 1.00 points to NB-SVM" in loses


def test_missing_metrics_are_dashes(make_run: MakeRun) -> None:
    lacking = {"val/auroc": None, "test/auroc": float("nan"), "timing": {}, "best_epoch": None}
    text = printed(make_run(examples=3, **lacking))
    assert row(text, "AUROC") == ["-", "-"]
    assert "best epoch" not in text


def test_what_the_temperature_did_is_one_line(make_run: MakeRun) -> None:
    uncalibrated = {"test/calibration_error": 0.0513, "test/loss": 0.3}
    calibration = {"temperature": 1.618, "uncalibrated": uncalibrated}
    line = (
        "Probabilities are calibrated: temperature 1.62; test calibration error 0.0513 to 0.0113, "
        "loss 0.3000 to 0.2481"
    )
    assert line in printed(make_run(examples=3, calibration=calibration))


@pytest.mark.parametrize("calibration", [{"temperature": 1.0, "uncalibrated": {}}, None, [1]])
def test_without_a_temperature_there_is_no_line_of_it(make_run: MakeRun, calibration: Any) -> None:
    assert "calibrated" not in printed(make_run(examples=3, calibration=calibration))


def test_metrics_that_the_user_added_are_rows_too(make_run: MakeRun) -> None:
    added = {"val/specificity": 0.25, "test/specificity": 0.5, "test/[b]x[/b]": 1.0}
    text = printed(make_run(examples=3, **added))
    assert row(text, "specificity") == ["0.2500", "0.5000"]
    assert row(text, "[b]x[/b]") == ["-", "1.0000"]
    assert text.index("calibration error") < text.index("specificity")


def result(**changes: Any) -> dict[str, Any]:
    return {
        "best_epoch": 2,
        "epochs": 4,
        "val/loss": 0.25,
        "test/loss": 0.3,
        "seed": 1,
        "git_commit": "abc",
        "model": {"name": "gru", "hidden_size": 8},
        "optimizer": {"name": "adam", "lr": 0.1},
        "scheduler": {"name": "none"},
        "trainer": {"accelerator": "cpu", "max_epochs": 4},
        "data": {"name": "files", "options": {"train_path": "/here", "num_workers": 0}},
        "versions": {"torch": "2"},
        "machine": {"cpu": "x"},
        "timing": {"threads": 2, "wall_time_s": 3.0},
    } | changes


def compared(first: dict[str, Any], second: dict[str, Any]) -> str:
    file = io.StringIO()
    print_comparison(compare_runs(first, second), Console(file=file, width=100))
    return file.getvalue()


def test_differing_options_are_listed_by_dotted_name() -> None:
    first = {"model": {"name": "gru", "dropout": 0.5}, "seed": 1, "patience": None}
    second = {"model": {"name": "lstm", "dropout": 0.5, "forget_bias": 1.0}, "seed": 1}
    assert diff_options(first, second) == [
        ("model.name", "gru", "lstm"),
        ("model.forget_bias", None, 1.0),
    ]
    assert diff_options(second, first)[1] == ("model.forget_bias", 1.0, None)


def test_values_of_different_types_differ_and_equal_numbers_do_not() -> None:
    first = {"a": 1, "b": 1, "c": "1", "d": [1, 2], "e": (1, 2)}
    second = {"a": 1.0, "b": True, "c": 1, "d": [2, 1], "e": [1, 2]}
    assert [name for name, *_ in diff_options(first, second)] == ["b", "c", "d"]


def test_equal_runs_have_equal_metrics_and_no_reason() -> None:
    comparison = compare_runs(result(), result())
    assert comparison.differing == comparison.reasons == []
    assert "All 4 metrics are bit-identical.\n" in compared(result(), result())


def test_a_difference_without_a_reason_is_only_a_difference() -> None:
    changed = result() | {"test/loss": 0.30000000000000004}
    comparison = compare_runs(result(), changed)
    assert comparison.format_differing() == "1 of 4 metrics differ (test/loss)"
    assert comparison.reasons == []
    assert "0.30000000000000004" in compared(result(), changed)


def test_every_reason_is_named() -> None:
    second = result(
        optimizer={"name": "adam", "lr": 0.2}, versions={"torch": "3", "extra": "1"},
        machine={"cpu": "y"}, git_commit="def", timing={"threads": 1, "wall_time_s": 9.0},
        trainer={"accelerator": "gpu", "max_epochs": 4},
    )  # fmt: skip
    assert compare_runs(result(), second).reasons == [
        "optimizer.lr: 0.1 recorded, 0.2 here",
        "trainer.accelerator: cpu recorded, gpu here",
        "torch: 2 recorded, 3 here",
        "extra: null recorded, 1 here",
        "cpu: x recorded, y here",
        "git_commit: abc recorded, def here",
        "threads: 2 recorded, 1 here (OMP_NUM_THREADS=2)",
        "a GPU does not fix the order of every sum",
    ]


def test_paths_of_texts_and_options_without_effect_are_no_reason() -> None:
    moved = {"name": "files", "options": {"train_path": "/there", "num_workers": 4}}
    assert compare_runs(result(), result(data=moved)).reasons == []


def test_values_of_an_untrusted_file_are_printed_harmlessly() -> None:
    evil = {"val/\x1b[2J": "\x1b[31m", "versions": {"torch": "x" * 300}}
    text = compared(result() | evil, result())
    assert "\x1b" not in text
    assert "x" * 61 not in text
