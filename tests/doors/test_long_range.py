"""experiment=long_range as a user runs it: the sweep, its dashboard, and the picture after it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doors.runner import PROJECT, inspect_wandb, open_door

SMALL = ("data.num_train=40", "data.num_test=20", "trainer.max_epochs=1", "model.hidden_size=8")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    cwd = tmp_path_factory.mktemp("long_range")
    done = open_door(
        *("train.py", "-m", "experiment=long_range", "model=rnn,gru", "data.distance=6,9"),
        *(*SMALL, "logger=wandb", "hydra.sweep.dir=runs/long_range"),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "long_range"


def test_every_run_is_of_its_model_and_distance(sweep):
    results = [json.loads(path.read_text()) for path in sweep.glob("*/result.json")]
    assert {(r["model"]["name"], r["data"]["options"]["distance"]) for r in results} == {
        (model, distance) for model in ("rnn", "gru") for distance in (6, 9)
    }
    for result in results:
        assert result["synthetic"]
        assert result["model"]["pooling"] == "last"
        assert result["model"]["dropout"] == result["model"]["word_dropout"] == 0
    names = {r["run_name"] for r in results}
    assert names == {f"{m}-long_range{d}-seed1" for m in ("rnn", "gru") for d in (6, 9)}


def test_wandb_has_the_gradient_flow(sweep):
    for folder in (path.parent for path in sweep.glob("*/result.json")):
        with (folder / "gradient_flow.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        first, last = rows[0]["step"], rows[-1]["step"]
        assert (first, last) == ("0", "2")  # 36 texts, 32 a batch
        (offline,) = (folder / "wandb").glob("offline-run-*")
        summary = inspect_wandb(offline, "--summary")
        for key in (
            "gradient_flow/layer0/distance_0",
            "gradient_flow/layer0/distance_1",
            "gradient_flow/layer0_forward",
            "plots/gradient_flow",
        ):
            assert f'"{key}' in summary, key
        logged = [
            json.loads(item["value_json"])
            for record in map(json.loads, inspect_wandb(offline).splitlines())
            if record["type"] == "history"
            for item in record["history"]["item"]
            if item_name(item) == "gradient_flow/layer0/distance_1"
        ]
        expected = [float(row["norm"]) for row in rows if row["distance"] == "1"]
        assert logged == pytest.approx(expected)


def item_name(item: dict) -> str:
    return item.get("key") or ".".join(item["nested_key"])


def test_the_report_draws_it(sweep):
    done = subprocess.run(
        [sys.executable, "-m", "src.reports.long_range", str(sweep)],
        cwd=PROJECT,
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "| model | 6 | 9 |" in done.stdout
    assert (sweep / "long_range.png").stat().st_size > 20_000


def test_a_signal_out_of_reach_is_one_line(tmp_path):
    done = open_door("train.py", "experiment=long_range", "data.distance=20000", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: data.max_length=10001: the signal word would be cut off; "
        "data.distance=20000 needs 20001 or more\n"
    )
