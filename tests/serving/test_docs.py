"""The commands of docs/serve.md work as they are printed, in their order."""

import contextlib
import csv
import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rnn_lab.serving.config import ServeOptions
from tests.cli.runner import PROJECT
from tests.serving.conftest import Start
from tests.test_pages import write_files

PAGE = (PROJECT / "docs" / "serve.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^<!-- not run: tests/serving/test_docs.py [^\n]*\n```(bash|python)\n(.*?)^```$", re.M | re.S
)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_page(start: Start, mood_run: Path, tmp_path: Path):
    (_, command), *blocks = BLOCK.findall(PAGE)
    program, name, *options = shlex.split(command)
    assert (program, name, options) == ("rnn-lab", "serve", ["run=runs/tickets", "port=8000"])
    shutil.copytree(mood_run, tmp_path / "tickets")
    write_files(tmp_path)
    server = start(f"run={tmp_path / 'tickets'}")
    assert server.printed().replace(str(server.port), "8000") in PAGE
    printed = []
    for language, text in blocks:
        # A free port, and a class of the small run.
        text = text.replace("8000", str(server.port)).replace('"billing"', '"bad"')
        if language == "bash":
            done = subprocess.run(
                [*shlex.split(text), "-sS", "--fail-with-body"],
                cwd=tmp_path, capture_output=True, text=True, check=True,
            )  # fmt: skip
            printed.append(done.stdout)
        else:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(text, {})
            printed.append(output.getvalue())
    predicted, from_python, explained, _, runs, metrics = printed
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)
    assert list(json.loads(predicted)) == list(json.loads(shown))
    (found,), (wanted,) = (json.loads(text)["predictions"] for text in (predicted, shown))
    assert list(found) == list(wanted)
    assert set(from_python.split("\n")) <= {"bad", "good", "so so", ""}
    assert json.loads(explained)["explained"] == "bad"
    assert json.loads(runs)["runs"][0]["name"] == "tickets"
    with (tmp_path / "labelled.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert rows[0]["subject"] == "ticket 0"
    for metric in re.findall(r"^\| `(rnn_lab_\w+)", PAGE, re.M):
        assert f"\n{metric}" in metrics


def test_every_route_and_limit_is_on_the_page(server):
    for path, methods in server.get("/openapi.json").json["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in PAGE
    for limit in server.get("/runs").json["limits"]:
        assert f"| `{limit}` | " in PAGE
    assert set(re.findall(r"`(max_\w+)`", PAGE)) <= set(ServeOptions.model_fields)
