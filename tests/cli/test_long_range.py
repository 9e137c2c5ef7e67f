"""experiment=long_range as a user runs it: the sweep, its dashboard, and the picture after it."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.forked import run_warm_command
from tests.cli.runner import inspect_wandb

SMALL = ("data.num_train=40", "data.num_test=20", "data.batch_size=16", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    cwd = tmp_path_factory.mktemp("long_range")
    done = run_warm_command(
        *("train.py", "-m", "experiment=long_range", "model=rnn,gru", "data.distance=6", *SMALL),
        *("logger=wandb", "hydra.sweep.dir=runs/long_range", "plots=false"),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "long_range"


def test_every_run_is_of_its_model_and_distance(sweep):
    results = [json.loads(path.read_text()) for path in sweep.glob("*/result.json")]
    assert {result["run_name"] for result in results} == {
        "rnn-long_range6-seed1",
        "gru-long_range6-seed1",
    }
    for result in results:
        assert result["synthetic"]
        assert result["data"]["options"]["distance"] == 6
        assert result["model"]["pooling"] == "last"
        assert result["model"]["dropout"] == result["model"]["word_dropout"] == 0


def test_wandb_has_the_gradient_flow(sweep):
    for folder in (path.parent for path in sweep.glob("*/result.json")):
        with (folder / "gradient_flow.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        first, last = rows[0]["step"], rows[-1]["step"]
        assert (first, last) == ("0", "3")  # 36 texts, 16 a batch
        (offline,) = (folder / "wandb").glob("offline-run-*")
        summary = inspect_wandb(offline, "--summary")
        for key in (
            "gradient_flow/layer0/distance_0",
            "gradient_flow/layer0/distance_1",
            "gradient_flow/layer0_forward",
        ):
            assert f'"{key}' in summary, key
        records = map(json.loads, inspect_wandb(offline).splitlines())
        steps = [record["history"]["item"] for record in records if record["type"] == "history"]
        name = "gradient_flow/layer0/distance_1"
        curve = {step["trainer/global_step"]: step[name] for step in steps if name in step}
        assert list(curve) == [0, 3]
        written = [float(row["norm"]) for row in rows if row["distance"] == "1"]
        assert list(curve.values()) == pytest.approx(written)


def test_the_report_draws_it(sweep):
    arguments = ("rnn_lab/__main__.py", "report", f"long_range={sweep}")
    done = run_warm_command(*arguments, cwd=sweep)
    assert done.returncode == 0, done.stderr
    assert "| model | 6 |" in done.stdout
    assert (sweep / "long_range.png").stat().st_size > 20_000


def test_a_signal_out_of_reach_is_one_line(tmp_path):
    done = run_warm_command(
        "train.py", "experiment=long_range", "data.distance=20000", cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: data.max_length=10001: cuts off the signal word; "
        "data.distance=20000 needs 20001 or more\n"
    )
