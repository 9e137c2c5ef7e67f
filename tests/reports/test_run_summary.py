"""The summary of a run shows what is in its result.json, on any terminal or none."""

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from rnn_lab.reports.run_summary import print_run

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


def test_missing_metrics_are_dashes(make_run: MakeRun) -> None:
    lacking = {"val/auroc": None, "test/auroc": float("nan"), "timing": {}, "best_epoch": None}
    text = printed(make_run(examples=3, **lacking))
    assert row(text, "AUROC") == ["-", "-"]
    assert "best epoch" not in text


def test_metrics_that_the_user_added_are_rows_too(make_run: MakeRun) -> None:
    added = {"val/specificity": 0.25, "test/specificity": 0.5, "test/[b]x[/b]": 1.0}
    text = printed(make_run(examples=3, **added))
    assert row(text, "specificity") == ["0.2500", "0.5000"]
    assert row(text, "[b]x[/b]") == ["-", "1.0000"]
    assert text.index("calibration error") < text.index("specificity")
