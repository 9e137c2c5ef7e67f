"""eval.py, opened as a user opens it."""

import json

from tests.cli.forked import run_warm_command
from tests.cli.runner import run_command


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
    plots = {path.name for path in (cwd / "tested" / "plots").iterdir()}
    assert plots == {path.name for path in (mood_run / "plots").iterdir()} - {"learning_curves.png"}
    assert "accuracy" in done.stdout
    assert "validation" not in done.stdout
    assert str(cwd / "tested") in done.stdout


def test_a_mistake_is_one_line(tmp_path, mood_run):
    done = run_command("eval.py", f"run={mood_run}", "data=flies", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Did you mean files?" in line
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_sources_of_reviews(tmp_path):
    done = run_command("eval.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "data: auto, demo, demo_small, files, imdb, lists, long_range" in done.stdout
