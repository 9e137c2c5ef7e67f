"""`train.py reproduce=<result.json>`, as a user who doubts a metric runs it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.forked import run_warm_command

SMALL = (
    *("trainer=cpu", "logger=none", "data.num_train=100", "data.num_test=40"),
    *("model.embedding_dim=8", "model.hidden_size=8", "plots=false"),
)
QUIET = ("logger=none", "plots=false")


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def untimed_result(folder: Path) -> dict[str, Any]:
    """All of a result.json that says what came out."""
    found = read(folder)
    return {name: found[name] for name in found if "/" in name or "epoch" in name}


def column(folder: Path, name: str) -> list[str]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


def rows(said: str) -> dict[str, list[str]]:
    """The lines of a table, by their first cell."""
    cells = [line.split() for line in said.splitlines() if len(line.split()) == 4]
    return {row[0]: row[1:] for row in cells}


def change(folder: Path, place: Path, **changes: Any) -> Path:
    """A copy of that run's result.json, changed, in a folder of its own."""
    result = read(folder)
    for name, value in changes.items():
        *groups, last = name.split(".")
        part = result
        for group in groups:
            part = part[group]
        part[last] = value
    place.mkdir()
    (place / "result.json").write_text(json.dumps(result))
    return place


def test_a_result_is_enough_to_run_it_again_and_compare(mood_run, mood_reviews, tmp_path):
    """From a copy of that file and the texts; other texts are reported before training.

    One metric of the copy is edited. A run that is reproduced to the bit exits with 0, see
    tests/training/test_language_model.py.
    """
    mailed = change(mood_run, tmp_path / "mailed", **{"test/loss": 0.123})
    of_other_words = {"data.vocabulary_fingerprint": "0" * 64}
    changed = change(mood_run, tmp_path / "changed", **of_other_words)
    for folder, text in (("kept", ""), ("other", "dreadful")):
        (tmp_path / folder).mkdir()
        texts = mood_reviews.read_text()
        texts = texts.replace("awful", text, 1) if text else texts
        (tmp_path / folder / mood_reviews.name).write_text(texts)
    kept, other = (f"data.train_path={folder}/{mood_reviews.name}" for folder in ("kept", "other"))
    again, *refused = [
        run_warm_command("train.py", f"reproduce={run}", *options, *QUIET, cwd=tmp_path)
        for run, *options in (
            (mailed, kept, "hydra.run.dir=again"),
            (mailed, other, "hydra.run.dir=untrained1"),
            (changed, "hydra.run.dir=untrained2"),
            (mailed, "model.hidden_size=8", "hydra.run.dir=untrained3"),
        )
    ]
    assert again.returncode == 1
    assert rows(again.stdout)["test/loss"] == ["0.123", str(read(mood_run)["test/loss"]), "NO"]
    (line,) = [line for line in again.stderr.splitlines() if line.startswith("error: ")]
    assert f"reproduce={mailed / 'result.json'}: 1 of 12 metrics differ (test/loss)" in line
    assert untimed_result(tmp_path / "again") == untimed_result(mood_run)
    for name in ("label", "loss", "prediction"):
        assert column(tmp_path / "again", name) == column(mood_run, name)
    given = [f"reproduce={mailed / 'result.json'}", kept, *QUIET]
    assert read(tmp_path / "again")["overrides"] == given

    said = (
        "was trained on other texts",
        "had another vocabulary",
        "model.hidden_size=8: is taken",
    )
    for done, words in zip(refused, said, strict=True):
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ") and words in line
    assert not list(tmp_path.glob("untrained*/metrics.csv"))


RUNS = {
    "many/job": (
        *("-m", "seed=3", "hydra.sweep.dir=many", "hydra.sweep.subdir=job", "trainer.max_epochs=2"),
        *("model=lstm", "model.bidirectional=true", "data.max_tokens_per_batch=2000"),
        *("optimizer=sgd", "optimizer.sparse_embedding=true"),
    ),
    "tutorial": ("experiment=tutorial", "data=demo", "trainer.max_epochs=1"),
}


@pytest.mark.slow
def test_runs_of_every_kind_run_again_to_the_same_bits(tmp_path):
    for name, chosen in RUNS.items():
        experiment = () if "experiment=tutorial" in chosen else ("experiment=smoke",)
        place = () if "-m" in chosen else (f"hydra.run.dir={name}",)
        done = run_warm_command("train.py", *chosen, *experiment, *SMALL, *place, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        place = (f"hydra.run.dir=again/{name}",)
        done = run_warm_command("train.py", f"reproduce={name}", *QUIET, *place, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "metrics are bit-identical" in done.stdout
    for name in RUNS:
        assert untimed_result(tmp_path / "again" / name) == untimed_result(tmp_path / name)
        for column_name in ("label", "loss", "prediction"):
            again, first = (column(tmp_path / p / name, column_name) for p in ("again", ""))
            assert again == first
