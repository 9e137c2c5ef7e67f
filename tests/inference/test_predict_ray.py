"""engine=ray, on a Ray of this machine that the command starts."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnn_lab.commands import export
from rnn_lab.errors import ConfigError
from rnn_lab.inference.predict import predict
from tests.cli.runner import PROJECT, command_environment

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed; pip install -r requirements-ray.txt"
)
ROWS = 15_000


def start(cwd: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(PROJECT / "predict.py"), "engine=ray", "num_workers=2", *options]
    environment = command_environment(cwd)
    with (cwd / "said").open("wb") as said:
        return subprocess.Popen(command, cwd=cwd, env=environment, stdout=said, stderr=said)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_says_what_to_install(tmp_path, mood_run):
    (tmp_path / "a.txt").write_text("lovely\n")
    options = {"run": str(mood_run), "input": str(tmp_path), "output": str(tmp_path / "out")}
    with pytest.raises(ConfigError, match=r"pip install 'ray\[data\]"):
        predict({**options, "engine": "ray"})


@pytest.mark.slow
@needs_ray
def test_every_row_is_labelled_once_though_a_worker_is_killed(tmp_path, mood_run):
    """Parquet, JSON lines and CSV; the results are those of one process without Ray."""
    texts = tmp_path / "texts"
    texts.mkdir()
    moods = ["an awful film", "lovely, lovely", "passable"]
    rows = [{"n": n, "review": moods[n % 3]} for n in range(ROWS)]
    for number in range(2):
        pq.write_table(pa.Table.from_pylist(rows), texts / f"{number}.parquet")
        (texts / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with (texts / f"{number}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["n", "review"])
            writer.writeheader()
            writer.writerows(rows)
    out = tmp_path / "out"
    process = start(tmp_path, f"run={mood_run}", "input=texts", "output=out")
    killed = None
    until = time.monotonic() + 200
    while killed is None:
        assert time.monotonic() < until and process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.02)
        done = list(out.glob("*.parquet"))
        for partial in out.glob(".*.partial"):
            if len(done) >= 2 and partial.stat().st_size:
                killed = int(partial.name.split(".")[-2])
                os.kill(killed, signal.SIGKILL)
                break
    assert process.wait(200) == 0, (tmp_path / "said").read_text()
    said = (tmp_path / "said").read_text()
    assert "6 of 6 files labelled" in said
    workers = set(map(int, re.findall(r"pid=(\d+)\)", said)))
    assert killed in workers or len(workers) >= 2

    predict(
        {"run": str(mood_run), "input": str(texts), "output": str(tmp_path / "here")}
        | {"output_format": "parquet"}
    )
    names = sorted(path.name for path in out.iterdir() if path.is_file())
    assert names == sorted(
        f"{n}.{kind}.parquet" for n in (0, 1) for kind in ("csv", "jsonl", "parquet")
    )
    for name in names:
        table = pq.read_table(out / name)
        assert [int(n) for n in table["n"].to_pylist()] == list(range(ROWS))
        assert table.equals(pq.read_table(tmp_path / "here" / name))


@pytest.mark.slow
@needs_ray
def test_the_rows_of_one_file_and_a_run_without_torch(tmp_path, mood_run, monkeypatch):
    """And what is bad: a file that is not one, and then a run that may not be read."""
    monkeypatch.chdir(tmp_path)
    export([f"run={mood_run}", "output=model.onnx"])
    Path("a.jsonl").write_text('{"review": "lovely\\nfilm"}\n' * 999 + '{"body": 1}\n')
    process = start(tmp_path, "run=model.onnx", "input=a.jsonl", "output=out")
    assert process.wait(200) == 0, Path("said").read_text()
    tables = [pq.read_table(path) for path in sorted(Path("out").glob("*.parquet"))]
    assert len(tables) == 8  # four for each worker
    assert [line for table in tables for line in table["line"].to_pylist()] == list(range(1, 1001))
    assert len([error for table in tables for error in table["error"].to_pylist() if error]) == 1

    Path("b.csv.gz").write_bytes(b"no gzip")
    Path("model.onnx").write_bytes(Path("model.onnx").read_bytes()[:-9])
    process = start(tmp_path, "run=model.onnx", "input=[a.jsonl,b.csv.gz]", "output=refused")
    assert process.wait(200) == 1
    (line,) = [line for line in Path("said").read_text().splitlines() if line.startswith("error")]
    assert "model.onnx" in line
    process = start(tmp_path, f"run={mood_run}", "input=[a.jsonl,b.csv.gz]", "output=some")
    assert process.wait(200) == 1
    lines = [line for line in Path("said").read_text().splitlines() if line.startswith("error")]
    assert lines[0] == "error: 1 of 2 files are not labelled:"
    assert "b.csv.gz" in lines[1]
