"""Which runs of a sweep read or were tested on other texts, and why."""

import json
from pathlib import Path

import pytest

from rnn_lab.reports.sweep.baselines import summarize_baselines
from rnn_lab.reports.sweep.jobs import read_jobs
from rnn_lab.reports.sweep.page import render_page
from rnn_lab.reports.sweep.texts import text_notes
from tests.reports.sweep.test_report import reported
from tests.reports.sweep_folders import write_job


def write(sweep: Path, name: str, texts: str, *, tested: str = "", **options: object) -> None:
    """Write a run on own files whose texts have that fingerprint, those of its test `tested`."""
    composed = {"source": "files", "train_path": "a.csv", "test_fraction": 0.2, "split_seed": 0,
                "max_length": 100, "folds": None, "fold": None}  # fmt: skip
    data = {option: options.pop(option) for option in [*options] if option in composed}
    recorded = {"name": "files", "fingerprint": texts, "test_fingerprint": tested or texts}
    write_job(sweep, name, data=composed | data, result={"data": recorded}, **options)


def test_equal_texts_need_no_word(tmp_path: Path) -> None:
    for seed in (1, 2):
        write(tmp_path, f"{seed}", "a", seed=seed, max_length=100 * seed)
    write_job(tmp_path, "failed", status="failed", seed=3)
    assert text_notes(read_jobs(tmp_path)) == []


@pytest.mark.parametrize("varied", ["seed", "model__name", "max_length"])
def test_runs_before_and_after_an_edit_are_named(tmp_path: Path, varied: str) -> None:
    values = {"seed": (1, 2, 3), "model__name": ("gru", "lstm", "rnn"), "max_length": (1, 2, 3)}
    for i, value in enumerate(values[varied]):
        write(tmp_path, f"run{i}", "old" if i == 1 else "new", **{varied: value})
    (line,) = text_notes(read_jobs(tmp_path))
    assert line.startswith("run1: read other texts than run0, run2, though the options are the")
    assert line in reported(tmp_path)
    assert line.partition(":")[0] in render_page(tmp_path, read_jobs(tmp_path))
    assert "read other texts than run0, run2" in (tmp_path / "sweep.html").read_text()


def test_the_baselines_of_changed_files_have_rows_of_their_own(tmp_path: Path) -> None:
    for seed, texts in enumerate(("old", "old", "new"), start=1):
        write(tmp_path, f"run{seed}", texts, seed=seed)
        path = tmp_path / f"run{seed}" / "result.json"
        scores = {"baseline": {"tfidf": {"val/accuracy": 0.8 if texts == "old" else 0.6}}}
        path.write_text(json.dumps(json.loads(path.read_text()) | scores))
    baselines = summarize_baselines(read_jobs(tmp_path))
    assert [(b.texts, b.metrics["val/accuracy"], b.runs) for b in baselines] == [
        ("", pytest.approx(0.8), 2),
        ("changed files", pytest.approx(0.6), 1),
    ]


def test_the_baselines_of_each_number_of_training_texts_have_rows_of_their_own(
    tmp_path: Path,
) -> None:
    for size in (100, 300):
        write(tmp_path, f"{size}", "same", data__train_size=size)
        path = tmp_path / f"{size}" / "result.json"
        scores = {"baseline": {"nbsvm": {"val/accuracy": size / 1000}}}
        path.write_text(json.dumps(json.loads(path.read_text()) | scores))
    jobs = read_jobs(tmp_path)
    assert text_notes(jobs) == []
    assert [(b.name, b.texts, b.metrics["val/accuracy"]) for b in summarize_baselines(jobs)] == [
        ("NB-SVM", "train_size=100", 0.1),
        ("NB-SVM", "train_size=300", 0.3),
    ]


def test_a_split_for_each_seed_is_told_with_its_remedy(tmp_path: Path) -> None:
    for seed in (1, 2):
        write(tmp_path, f"{seed}", f"{seed}", seed=seed, split_seed="${seed}")
    (line,) = text_notes(read_jobs(tmp_path))
    assert line.startswith("Each value of data.split_seed has another test split")
    assert "data.split_seed=1 tests all runs on the same texts" in line


def test_another_training_file_is_told_where_it_was_tested_on_other_texts(tmp_path: Path) -> None:
    for path in ("a.csv", "b.csv"):
        write(tmp_path, path, path, train_path=path, tested="same")
    assert text_notes(read_jobs(tmp_path)) == []
    write(tmp_path, "c.csv", "c.csv", train_path="c.csv", tested="its own")
    (line,) = text_notes(read_jobs(tmp_path))
    assert line.startswith("Runs that differ in data.train_path were tested on other texts")


@pytest.mark.parametrize("option", ["train_size", "val_fraction"])
def test_runs_that_were_validated_on_other_texts_are_told(tmp_path: Path, option: str) -> None:
    for value, examples in ((100, 10), (200, 20)):
        recorded = {"name": "imdb", "fingerprint": "a", "num_examples": {"validation": examples}}
        data = {"source": "imdb", option: value}
        write_job(tmp_path, f"{value}", data=data, result={"data": recorded})
    (line,) = text_notes(read_jobs(tmp_path))
    assert line.startswith(f"Runs that differ in data.{option} were validated on other texts")
    assert line in reported(tmp_path)


def test_the_same_validation_file_needs_no_word(tmp_path: Path) -> None:
    for size in (100, 200):
        recorded = {"name": "files", "fingerprint": "a", "num_examples": {"validation": 50}}
        data = {"source": "files", "train_size": size, "val_path": "val.csv"}
        write_job(tmp_path, f"{size}", data=data, result={"data": recorded})
    assert text_notes(read_jobs(tmp_path)) == []


def test_the_folds_of_a_cross_validation_are_no_other_texts(tmp_path: Path) -> None:
    for fold in range(3):
        write(tmp_path, f"{fold}", f"fold {fold}", folds=3, fold=fold)
    assert text_notes(read_jobs(tmp_path)) == []
    write(tmp_path, "edited", "another", folds=3, fold=1, seed=2)
    lines = text_notes(read_jobs(tmp_path))
    assert len(lines) == 1 and "edited" in lines[0] and "files have changed" in lines[0]


def test_a_split_seed_that_splits_no_test_hides_no_edit(tmp_path: Path) -> None:
    for seed, texts in ((1, "old"), (2, "new")):
        write_job(
            tmp_path, f"{seed}", seed=seed, result={"data": {"name": "x", "fingerprint": texts}}
        )
    (line,) = text_notes(read_jobs(tmp_path))
    assert "files have changed" in line
