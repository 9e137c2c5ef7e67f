"""docs/scaling.md: every command runs as it is printed, in this order, and its sums are right."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rnn_lab.commands import export
from tests.cli.forked import run_warm_command
from tests.cli.runner import PROJECT, command_environment, run_command
from tests.cli.test_slurm import why_not

PAGE = (PROJECT / "docs" / "scaling.md").read_text(encoding="utf-8")
# The comment before a block says when its commands run: "", "with the slow tests", "on Slurm" or
# "on Ray".
BLOCK = re.compile(
    r"^<!-- not run: tests/test_scaling_page\.py runs it ?(?P<when>[^\n]*) -->\n"
    r"```bash\n(?P<text>.*?)^```$",
    re.M | re.S,
)
ROWS = {"a.csv": 120, "more/b.jsonl": 30, "more/c.csv": 7}


@pytest.fixture
def folder(tmp_path, mood_run, monkeypatch) -> Path:
    """The folder of the reader: an exported model and texts."""
    monkeypatch.chdir(tmp_path)
    export([f"run={mood_run}", "output=model.onnx"])
    (tmp_path / "texts" / "more").mkdir(parents=True)
    for name, rows in ROWS.items():
        lines = ["review", *["a lovely film"] * rows]
        if name.endswith(".jsonl"):
            lines = ['{"review": "an awful film"}'] * rows
        (tmp_path / "texts" / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def commands(when: str) -> list[str]:
    """The commands of the blocks with that comment, each as one line of the shell."""
    blocks = [block["text"] for block in BLOCK.finditer(PAGE) if block["when"] == when]
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


def run(line: str, folder: Path, *, warm: bool = False) -> None:
    program, name, *arguments = shlex.split(line)
    assert (program, name) == ("rnn-lab", "predict")
    runner = run_warm_command if warm else run_command
    done = runner("predict.py", *arguments, cwd=folder)
    assert done.returncode == 0, f"{line}\n{done.stderr}"


def check_labelled(output: Path) -> None:
    """Every row has one output, in its own file."""
    for name, rows in ROWS.items():
        lines = (output / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        first = 1 if name.endswith(".jsonl") else 2
        assert [json.loads(line)["line"] for line in lines] == list(range(first, first + rows))


def test_the_commands_run(folder) -> None:
    for line in commands(""):
        run(line, folder, warm=True)
    assert pq.read_table("labelled.parquet").num_rows == ROWS["a.csv"]
    check_labelled(folder / "labelled")
    assert sorted(path.name for path in Path("two").glob("*.parquet")) == [
        "a.csv.parquet",
        "b.jsonl.parquet",
    ]
    assert len([path for path in Path("tables").rglob("*.csv.jsonl") if path.is_file()]) == 2


@pytest.mark.slow
def test_the_shards_run_as_processes(folder) -> None:
    (line,) = commands("with the slow tests")
    run(line, folder)
    check_labelled(folder / "labelled")


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_both_arrays_run_on_slurm(folder) -> None:
    with_hydra, by_hand = commands("on Slurm")
    run(with_hydra, folder)
    check_labelled(folder / "labelled")
    shutil.rmtree("labelled")
    rnn_lab = shlex.join([sys.executable, "-m", "rnn_lab"])
    environment = command_environment(folder) | {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(
        by_hand.replace("rnn-lab", rnn_lab).replace("sbatch ", "sbatch --wait "),
        shell=True,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    logs = "".join(path.read_text() for path in folder.glob("slurm-*.out"))
    assert done.returncode == 0, done.stderr + logs
    assert "shard 1/2: " in logs
    check_labelled(folder / "labelled")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_the_command_runs_on_ray(folder) -> None:
    (line,) = commands("on Ray")
    assert "RAY_ADDRESS" not in os.environ
    run(line, folder)
    tables = {name: pq.read_table(folder / f"on_ray/{name}.parquet") for name in ROWS}
    assert {name: table.num_rows for name, table in tables.items()} == ROWS


def test_the_sums_are_right() -> None:
    """Of the table of speeds: reviews/s of a core -> what a billion texts take."""
    rows = re.findall(r"^\| `(\S+)` \|(.*)\|$", PAGE, re.M)
    assert len(rows) == 4
    for _, cells in rows:
        speed, core_hours, hours = (
            float(cell.strip().split()[0].replace(",", "")) for cell in cells.split("|")
        )
        assert core_hours == pytest.approx(1e9 / speed / 3600, rel=0.03)
        assert hours == pytest.approx(core_hours / 100, rel=0.03)
