"""explain.py, opened as a user opens it."""

import subprocess
import sys

from rnn_lab.reports.formatting import format_run
from rnn_lab.runs.result_json import read_result
from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT

PAGE = {
    "explanation.html",
    "explanation.json",
    *(f"gates_layer1_{direction}.png" for direction in ("forward", "backward")),
    *(f"path_layer1_{direction}.png" for direction in ("forward", "backward")),
    "states.npz",
    "prediction.png",
}


def test_page_is_in_the_run_folder_and_agrees_with_predict(tmp_path, mood_run):
    text = 'An awful, "awful" film: ${x} <b>'
    done = run_warm_command("explain.py", f"run={mood_run}", f"text={text}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    predicted = run_warm_command("predict.py", f"run={mood_run}", f"text={text}", cwd=tmp_path)
    assert done.stdout.startswith(predicted.stdout)
    (folder,) = (mood_run / "explain").iterdir()
    assert folder.name.startswith("an-awful-awful-film-x-b-")
    assert {path.name for path in folder.iterdir()} == PAGE
    assert done.stdout.splitlines()[-1] == f"explanation: {folder / 'explanation.html'}"
    page = (folder / "explanation.html").read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page.partition("</title>")[0]
    assert format_run(read_result(mood_run)) in page
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_a_mistake_is_one_line(tmp_path):
    for arguments, said in [
        ((f"run={tmp_path}", "text=x", "outptu=y"), "Did you mean output?"),
        ((f"run={tmp_path}", "text=x"), "looked for"),
    ]:
        done = run_warm_command("explain.py", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# explain.py as it is run, and then which of the modules that take seconds to load it has loaded.
LOADED = """
import atexit, explain, sys, rnn_lab.inference.explain
atexit.register(lambda: print("loaded:", *{"torch", "captum"} & {*sys.modules}))
sys.argv = ["explain.py", "--help"]
explain.main()
"""


def test_help_shows_a_sentence_and_needs_no_torch():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 'text="the cat sat on the mat"' in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"
