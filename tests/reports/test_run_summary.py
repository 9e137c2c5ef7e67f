"""The table that ends a run says what result.json holds, on any terminal or none."""

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


def test_validation_stands_beside_test(make_run: MakeRun) -> None:
    run = make_run(reviews=3)
    text = printed(run)
    assert "GRU on IMDB reviews, seed 1" in text
    assert text.index("validation") < text.index("test")
    assert row(text, "accuracy") == ["90.12", "89.12"]
    assert row(text, "F1 (macro)") == ["90.08", "89.08"]
    assert row(text, "AUROC") == ["0.9623", "0.9523"]
    assert row(text, "loss") == ["0.2581", "0.2481"]
    assert row(text, "calibration error") == ["0.0213", "0.0113"]
    assert "epoch 3 chosen" in text
    assert "1,234 reviews/s" in text
    assert "3 min 7 s" in text


def test_a_test_of_a_finished_run_has_no_validation(make_run: MakeRun) -> None:
    text = printed(make_run(reviews=3, checkpoint="best.ckpt", data={"name": "files"}))
    assert "validation" not in text
    assert row(text, "accuracy") == ["89.12"]
    assert "GRU on files, seed 1" in text


def test_plain_text_where_there_is_no_terminal(make_run: MakeRun) -> None:
    assert "\x1b" not in printed(make_run(reviews=3))
    assert "\x1b" in printed(make_run("other", reviews=3), force_terminal=True)


def test_the_folder_can_be_copied_from_a_narrow_terminal(make_run: MakeRun) -> None:
    run = make_run("a long [bold]name[/bold] " * 5, reviews=3)
    assert f"Run folder: {run}\n" in printed(run, width=40)


def test_made_up_reviews_are_said_to_be(make_run: MakeRun) -> None:
    demo = {"source": "auto", "name": "demo"}
    asked = printed(make_run("asked", reviews=3, synthetic=True, data=demo))
    assert "synthetic demo reviews" in asked
    assert "IMDB" not in asked
    fallback = printed(
        make_run("fallback", reviews=3, synthetic=True, demo_fallback=True, data=demo)
    )
    assert "synthetic demo reviews" in fallback
    assert "not of IMDB" in fallback


def test_figures_that_a_run_lacks_are_dashes(make_run: MakeRun) -> None:
    lacking = {"val/auroc": None, "test/auroc": float("nan"), "timing": {}, "best_epoch": None}
    text = printed(make_run(reviews=3, **lacking))
    assert row(text, "AUROC") == ["-", "-"]
    assert "chosen" not in text
