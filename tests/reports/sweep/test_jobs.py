"""Every job of a sweep is found with its status, however damaged its folder is."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.sweep.groups import group_jobs
from rnn_lab.reports.sweep.jobs import (
    monitor_notes,
    read_importances,
    read_job,
    read_jobs,
    sweep_mode,
    sweep_monitor,
)
from tests.reports.sweep_folders import write_correctness, write_job


def statuses(sweep: Path) -> dict[str, str]:
    return {job.name: job.status for job in read_jobs(sweep)}


def test_jobs_are_sorted_by_status(tmp_path: Path) -> None:
    for status in ("finished", "pruned", "failed", "unfinished"):
        write_job(tmp_path, status, status=status)
    running = write_job(tmp_path, "running", status="running", epochs=0)
    failed_before = write_job(tmp_path, "finished at last", status="failed")
    (failed_before / "result.json").write_text((tmp_path / "finished/result.json").read_text())
    with FileLock(running / "job.lock"):
        found = statuses(tmp_path)
    assert found == {name: name for name in found} | {"finished at last": "finished"}
    assert len(found) == 6
    assert statuses(tmp_path)["running"] == "unfinished"  # its process ended and released the lock


def test_fields_of_each_status(tmp_path: Path) -> None:
    write_job(tmp_path, "a", accuracy=0.91, result={"batch_halvings": 1})
    write_job(tmp_path, "b", accuracy=0.8, status="pruned", epochs=3)
    write_job(tmp_path, "c", status="failed", epochs=2)
    (tmp_path / "multirun.yaml").touch()
    (tmp_path / "no job").mkdir()
    finished, pruned, failed = read_jobs(tmp_path)
    assert (finished.rank, finished.best_epoch, finished.epochs, finished.batch_halvings) == (
        1,
        2,
        4,
        1,
    )
    assert finished.metrics["val/accuracy"] == 0.91
    assert finished.train_examples_per_s == 1234.5
    assert finished.curves["val/accuracy"][0] == [0, 1, 2, 3]
    assert finished.curves["val/accuracy"][1][2] == 0.91
    assert (pruned.rank, pruned.best_epoch, pruned.epochs) == (None, 1, 3)
    assert pruned.metrics == {"val/accuracy": 0.8, "val/loss": pytest.approx(0.2)}
    assert failed.error == "OutOfMemoryError: CUDA out of memory"
    assert (failed.attempts, failed.log) == (2, str(tmp_path / "c" / "train.log"))
    assert (failed.metrics, failed.epochs) == ({}, 2)


def test_validation_alone_ranks(tmp_path: Path) -> None:
    for name, accuracy, test in (("a", 0.8, 0.99), ("b", 0.9, 0.5), ("c", 0.9, 0.6), ("d", 0.7, 1)):
        write_job(tmp_path, name, accuracy=accuracy, result={"test/accuracy": test})
    write_job(tmp_path, "e", accuracy=0.95, status="pruned")
    ranks = [(job.name, job.rank) for job in read_jobs(tmp_path)]
    assert ranks == [("b", 1), ("c", 1), ("a", 3), ("d", 4), ("e", None)]


def test_a_lower_loss_ranks_higher_and_a_missing_metric_has_no_rank(tmp_path: Path) -> None:
    for name, loss in (("a", 0.5), ("b", 0.3), ("c", None)):
        write_job(tmp_path, name, result={"val/loss": loss, "monitored_metric": "val/loss"})
    jobs = read_jobs(tmp_path)
    assert sweep_monitor(jobs) == "val/loss"
    assert [(job.name, job.rank) for job in jobs] == [("b", 1), ("a", 2), ("c", None)]


@pytest.mark.parametrize(
    ("result", "pruned", "best"),
    [
        # The name alone decides, as in training: a user's metric is an error too.
        ({"monitored_metric": "val/error"}, {"monitored_metric": "val/error"}, "low"),
        ({"monitored_mode": "min"}, {"monitored_mode": "min"}, "low"),
        ({}, {}, "high"),
        # As earlier versions wrote it: result.json has the option, pruned.json has neither.
        ({"trainer": {"monitor_mode": "min"}}, {}, "low"),
        ({"trainer": {"monitor_mode": "auto"}}, {}, "high"),
        ({"trainer": {"monitor_mode": "auto"}, "monitored_mode": "min"}, {}, "low"),
        ({"monitored_mode": {"a": 1}, "trainer": 0}, {"monitored_mode": []}, "high"),
    ],
)
def test_the_mode_that_the_runs_recorded_ranks(
    tmp_path: Path, result: dict[str, object], pruned: dict[str, object], best: str
) -> None:
    metric = str(result.get("monitored_metric", "val/hamming"))
    for name, value in (("low", 0.25), ("middle", 0.5), ("high", 0.75)):
        values = {metric: value, metric.replace("val/", "test/"): value}
        write_job(tmp_path, name, result={"monitored_metric": metric} | result | values)
    path = write_job(tmp_path, "pruned", status="pruned") / "pruned.json"
    path.write_text(json.dumps({"monitored_metric": metric, metric: 0.9} | pruned))
    jobs = read_jobs(tmp_path)
    assert jobs[0].name == group_jobs(jobs)[0].jobs[0].name == best
    assert jobs[1].name == "middle"
    mode = "min" if best == "low" else "max"
    assert sweep_mode(jobs, metric.replace("val/", "test/")) == mode
    assert (sweep_mode(jobs, "val/accuracy"), sweep_mode(jobs, "val/loss")) == ("max", "min")


@pytest.mark.parametrize("status", ["unfinished", "pruned"])
def test_the_mode_of_a_job_without_result_is_its_option(tmp_path: Path, status: str) -> None:
    options = {"trainer__monitor": "val/accuracy", "trainer__monitor_mode": "min"}
    folder = write_job(tmp_path, "a", status=status, **options)
    (job,) = read_jobs(tmp_path)
    assert (job.monitor, job.mode) == ("val/accuracy", "min")
    if status == "pruned":  # by a study of another metric
        pruned = {"monitored_metric": "val/f1", "monitored_mode": "max"}
        (folder / "pruned.json").write_text(json.dumps(pruned))
        (job,) = read_jobs(tmp_path)
        assert (job.monitor, job.mode) == ("val/f1", "max")


def test_monitor_auto_is_what_the_results_have(tmp_path: Path) -> None:
    write_job(tmp_path, "a", status="unfinished", trainer__monitor="auto")
    (job,) = read_jobs(tmp_path)
    assert job.monitor is None and sweep_monitor([job]) == "val/accuracy"
    chosen = {"val/f1": 0.5, "monitored_metric": "val/f1"}
    write_job(tmp_path, "b", result=chosen, trainer__monitor="auto")
    assert sweep_monitor(read_jobs(tmp_path)) == "val/f1"


def test_a_slash_in_an_override_nests_folders(tmp_path: Path) -> None:
    write_job(tmp_path, "data.train_path=texts/a.csv")
    write_job(tmp_path, "data.train_path=texts/b.csv")
    assert sorted(statuses(tmp_path)) == [
        "data.train_path=texts/a.csv",
        "data.train_path=texts/b.csv",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"model":', "result.json: not valid JSON"),
        (b"", "result.json: empty"),
        (b"\xff\xfe", "result.json: cannot be read"),
        (b"[]", "expected an object"),
        (b"[" * 100_000, "result.json"),
        (b'{"val/accuracy": "high"}', "result.json: val/accuracy is not a number"),
        (b'{"epochs": "many"}', "many"),
        (b'{"timing": 7}', "int"),
    ],
)
def test_a_damaged_job_has_its_own_status(tmp_path: Path, content: bytes, says: str) -> None:
    write_job(tmp_path, "good")
    result = write_job(tmp_path, "bad") / "result.json"
    whole = json.loads(result.read_text())
    try:
        changed = whole | json.loads(content)
        result.write_text(json.dumps(changed))
    except (ValueError, TypeError, RecursionError):
        result.write_bytes(content)
    good, bad = read_jobs(tmp_path)
    assert (good.status, bad.status, bad.rank) == ("finished", "damaged", None)
    assert says in bad.error and "\n" not in bad.error


def test_truncated_files_never_raise(tmp_path: Path) -> None:
    for status in ("finished", "pruned", "failed", "unfinished"):
        folder = write_job(tmp_path, status, status=status, epochs=1, examples=2)
        for path in (path for path in folder.rglob("*") if path.is_file()):
            whole = path.read_bytes()
            for size in range(0, len(whole), 19):
                path.write_bytes(whole[:size])
                job = read_job(folder, tmp_path)
                assert job.status in (status, "damaged"), (path, size)
            path.write_bytes(whole)
        assert read_job(folder, tmp_path).error.count("\n") == 0


def test_config_and_metrics_of_a_finished_run_may_be_damaged(tmp_path: Path) -> None:
    folder = write_job(tmp_path, "a", model__hidden_size=64)
    (folder / ".hydra" / "config.yaml").write_text("model: {name: gru")
    (folder / "metrics.csv").write_text("step,val/accuracy\n1,high\n")
    (job,) = read_jobs(tmp_path)
    assert (job.status, job.rank, job.curves) == ("finished", 1, {})
    assert "config.yaml" in job.error and "metrics.csv:2" in job.error
    assert job.config["model.hidden_size"] == 64  # from result.json


def test_a_row_that_is_being_written_is_ignored(tmp_path: Path) -> None:
    folder = write_job(tmp_path, "a", status="unfinished", epochs=2)
    metrics = folder / "metrics.csv"
    metrics.write_text(metrics.read_text() + "2,29,,0.9")
    (job,) = read_jobs(tmp_path)
    assert (job.epochs, job.error) == (2, "")


def test_a_folder_that_is_no_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        read_jobs(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="contains no run"):
        read_jobs(tmp_path)
    run = write_job(tmp_path, "run")
    with pytest.raises(CheckpointError, match=r"run: the folder of a single run"):
        read_jobs(run)


def test_importances_of_each_metric_are_read(tmp_path: Path) -> None:
    path = tmp_path / "importances.json"
    assert read_importances(tmp_path, "val/f1") == {}
    shares = {"model.dropout": 0.2, "optimizer.lr": 0.8}
    path.write_text(json.dumps(shares))
    assert read_importances(tmp_path, "val/f1") == {"val/f1": shares}
    assert list(read_importances(tmp_path, "val/f1")["val/f1"]) == ["optimizer.lr", "model.dropout"]
    path.write_text(json.dumps({"study": "s", "importances": {"val/loss": shares, "val/f1": {}}}))
    assert read_importances(tmp_path, "val/f1") == {"val/loss": shares}
    path.write_text(json.dumps({"importances": {"monitored_metric": shares}}))
    assert read_importances(tmp_path, "val/f1") == {"val/f1": shares}
    for damaged in ("{", "[]", '{"importances": 3}', '{"importances": {"a": {"b": "c"}}}'):
        path.write_text(damaged)
        assert read_importances(tmp_path, "val/f1") == {}


def test_predictions_are_not_read(tmp_path: Path) -> None:
    folder = write_job(tmp_path, "a")
    write_correctness(folder, [])
    assert statuses(tmp_path) == {"a": "finished"}


def test_jobs_that_monitor_two_metrics_equally_often_are_ranked_by_one(tmp_path: Path) -> None:
    values = {"a": (0.2, 0.6), "b": (0.9, 0.5)}
    for name, (loss, f1) in values.items():
        chosen = {"monitored_metric": "val/loss" if name == "a" else "val/f1"}
        write_job(tmp_path, name, result={"val/loss": loss, "val/f1": f1} | chosen)
    jobs = read_jobs(tmp_path)
    assert sweep_monitor(jobs) == sweep_monitor(jobs[::-1]) == "val/f1"
    assert [job.name for job in jobs] == ["a", "b"]
    (note,) = monitor_notes(jobs)
    assert "validation loss" in note and "validation F1" in note


def test_a_job_that_failed_by_its_monitor_ranks_no_other(tmp_path: Path) -> None:
    write_job(tmp_path, "0", status="failed", trainer__monitor="val/nope")
    write_job(tmp_path, "1", status="failed", trainer__monitor="val/nope")
    write_job(tmp_path, "2", result={"val/f1": 0.3, "monitored_metric": "val/f1"})
    jobs = read_jobs(tmp_path)
    assert sweep_monitor(jobs) == "val/f1" and jobs[0].rank == 1
    assert monitor_notes(jobs) == []
