"""eval.py, opened as a user opens it."""

import json

from tests.cli.forked import run_warm_command
from tests.cli.runner import run_command

PLOTS = {
    *("calibration.png", "confusion_matrix.png", "length_and_accuracy.png"),
    "roc_and_precision_recall.png",
}


def test_gives_the_metrics_of_the_run(mood_run):
    """In the folder in which train.py ran: the same reviews, found in the same place."""
    cwd = mood_run.parent
    done = run_warm_command("eval.py", "run=run", "device=cpu", "hydra.run.dir=tested", cwd=cwd)
    assert done.returncode == 0, done.stderr
    trained = json.loads((mood_run / "result.json").read_text())
    tested = json.loads((cwd / "tested" / "result.json").read_text())
    names = [name for name in trained if name.startswith("test/")]
    assert {"test/accuracy", "test/f1", "test/auroc", "test/loss"} < set(names)
    assert {name: tested[name] for name in names} == {name: trained[name] for name in names}
    assert trained["test/accuracy"] > 0.9
    name = "predictions.csv"
    assert (cwd / "tested" / name).read_bytes() == (mood_run / name).read_bytes()
    plots = {path.name for path in (cwd / "tested" / "plots").iterdir() if path.stat().st_size}
    assert plots == PLOTS
    assert {path.name for path in (mood_run / "plots").iterdir()} == PLOTS | {"learning_curves.png"}
    assert "accuracy" in done.stdout
    assert "validation" not in done.stdout
    assert str(cwd / "tested") in done.stdout


def test_a_run_on_a_drawn_number_of_texts_is_tested_on_its_own_and_on_others(
    tmp_path, mood_reviews
):
    given = ("data=files", f"data.train_path={mood_reviews}", "data.train_size=60")
    small = ("experiment=smoke", "plots=false", "baseline=nbsvm", "hydra.run.dir=run")
    done = run_warm_command("train.py", *given, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trained = json.loads((tmp_path / "run" / "result.json").read_text())
    sizes = trained["data"]["num_examples"]
    assert (sizes["train"], sizes["validation"]) == (54, 6)
    assert "NB-SVM, test: accuracy" in done.stdout
    assert 0 <= trained["baseline"]["nbsvm"]["val/f1"] <= 1
    own = run_warm_command("eval.py", "run=run", "output_dir=own", cwd=tmp_path)
    assert own.returncode == 0, own.stderr
    tested = json.loads((tmp_path / "own" / "result.json").read_text())
    assert tested["test/accuracy"] == trained["test/accuracy"]
    # Of a file without training texts, none are drawn.
    other = ("data=files", f"data.test_path={mood_reviews}", "output_dir=other")
    done = run_warm_command("eval.py", "run=run", *other, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_mistake_is_one_line(tmp_path, mood_run):
    done = run_warm_command("eval.py", f"run={mood_run}", "data=flies", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Did you mean files?" in line
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_only_group_of_the_command(tmp_path):
    done = run_command("eval.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "data: auto, demo, files, imdb, long_range" in lines
    assert not any(line.startswith(("model: ", "trainer: ")) for line in lines)
