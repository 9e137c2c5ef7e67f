"""Two runs are compared option by option and metric by metric, and differences are explained."""

import io
from typing import Any

from rich.console import Console

from rnn_lab.reports.run_files import diff_options
from rnn_lab.reports.run_summary import compare_runs, print_comparison


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


def printed(first: dict[str, Any], second: dict[str, Any]) -> str:
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
    assert "All 4 metrics are bit-identical.\n" in printed(result(), result())


def test_a_difference_without_a_reason_is_only_a_difference() -> None:
    changed = result() | {"test/loss": 0.30000000000000004}
    comparison = compare_runs(result(), changed)
    assert comparison.format_differing() == "1 of 4 metrics differ (test/loss)"
    assert comparison.reasons == []
    assert "0.30000000000000004" in printed(result(), changed)


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
    text = printed(result() | evil, result())
    assert "\x1b" not in text
    assert "x" * 61 not in text
