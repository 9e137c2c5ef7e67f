"""eval.py, opened as a user opens it."""

import json

from tests.doors.runner import open_door


def test_gives_the_figures_of_the_run(mood_run):
    """In the folder in which train.py ran: the same reviews, found in the same place."""
    cwd = mood_run.parent
    done = open_door("eval.py", "run=run", "device=cpu", "hydra.run.dir=tested", cwd=cwd)
    assert done.returncode == 0, done.stderr
    trained = json.loads((mood_run / "result.json").read_text())
    tested = json.loads((cwd / "tested" / "result.json").read_text())
    names = [name for name in trained if name.startswith("test/")]
    assert {"test/accuracy", "test/f1", "test/auroc", "test/loss"} < set(names)
    assert {name: tested[name] for name in names} == {name: trained[name] for name in names}
    assert trained["test/accuracy"] > 0.9
    for name in ("predictions.csv",):
        assert (cwd / "tested" / name).read_bytes() == (mood_run / name).read_bytes()
    plots = {path.name for path in (cwd / "tested" / "plots").iterdir()}
    assert "confusion_matrix.png" in plots
    assert "accuracy" in done.stdout
    assert "tested" in done.stdout


def test_a_mistake_is_one_line(tmp_path, mood_run):
    for arguments, said in [
        ((), "run=<path>"),
        ((f"run={mood_run}", "data=flies"), "Did you mean files?"),
        ((f"run={mood_run}", "data=files", "data.test=nowhere.csv"), "nowhere.csv"),
    ]:
        done = open_door("eval.py", *arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_help_lists_the_sources_of_reviews(tmp_path):
    done = open_door("eval.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "data: auto, demo, files, imdb" in done.stdout
