"""The files in a folder decide the status of its job, and which folders are jobs."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from rnn_lab.runs.jobs import find_job_dirs, is_job_dir, job_status, read_job_file


def test_each_file_gives_a_status_and_a_result_outranks_the_others(tmp_path: Path) -> None:
    assert job_status(tmp_path) == "unfinished"
    for file, status in (("failure", "failed"), ("pruned", "pruned"), ("result", "finished")):
        (tmp_path / f"{file}.json").touch()
        assert job_status(tmp_path) == status


def test_a_held_lock_is_a_running_job(tmp_path: Path) -> None:
    with FileLock(tmp_path / "job.lock"):
        assert job_status(tmp_path) == "running"
    assert job_status(tmp_path) == "unfinished"


@pytest.mark.parametrize("content", [None, "", "{", "[]", "3", "\ud800", "[" * 100_000])
def test_a_missing_or_damaged_file_is_empty(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "job.json").write_bytes(content.encode(errors="surrogatepass"))
    assert read_job_file(tmp_path, "job") == {}
    (tmp_path / "job.json").write_text(json.dumps({"trial": 3}))
    assert read_job_file(tmp_path, "job") == {"trial": 3}


def test_jobs_are_found_in_nested_folders_but_not_through_links(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for folder, file in (("b", "job.json"), ("a", "result.json"), ("data=x/y", "metrics.csv")):
        (sweep / folder).mkdir(parents=True)
        (sweep / folder / file).touch()
    # Of other processes: a job that Hydra is creating, one that is being finished.
    for folder in ("starting/.hydra", "a/.finishing", "starting/.finishing"):
        (sweep / folder).mkdir(parents=True)
        (sweep / folder / "metrics.csv").touch()
    (sweep / "empty").mkdir()
    (sweep / "a" / "plots").mkdir()
    (sweep / "link").symlink_to(sweep / "a")
    (sweep / "multirun.yaml").touch()
    found = [str(folder.relative_to(sweep)) for folder in find_job_dirs(sweep)]
    assert found == ["a", "b", "data=x/y"]
    assert find_job_dirs(tmp_path / "absent") == find_job_dirs(sweep / "empty") == []
    assert is_job_dir(sweep / "a") and not is_job_dir(sweep)
