"""Means over seeds and their confidence intervals."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rnn_lab.reports.sweep.groups import ALL_RUNS, group_jobs, seed_stats
from rnn_lab.reports.sweep.jobs import read_jobs
from tests.reports.sweep_folders import write_job


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_is_students(n: int) -> None:
    values = np.random.default_rng(n).normal(0.9, 0.01, n)
    found = seed_stats(values.tolist())
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.n == n
    assert found.mean == pytest.approx(values.mean())
    assert found.deviation == pytest.approx(values.std(ddof=1))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_interval_equals_students_table() -> None:
    # t = 4.303 for two degrees of freedom: three runs at 1, 2, 3 have s = 1.
    found = seed_stats([1.0, 2.0, 3.0])
    assert found.high == pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3)


def test_one_run_has_no_interval_and_none_has_no_mean() -> None:
    one = seed_stats([0.9])
    assert (one.n, one.mean, one.deviation, one.low, one.high) == (1, 0.9, None, None, None)
    assert (seed_stats([]).n, seed_stats([]).mean) == (0, None)
    assert seed_stats([0.5, 0.5]).low == seed_stats([0.5, 0.5]).high == 0.5


def test_groups_are_runs_that_differ_in_the_seed_alone(tmp_path: Path) -> None:
    for seed, accuracy in ((1, 0.80), (2, 0.82)):
        write_job(tmp_path, f"a{seed}", accuracy=accuracy, seed=seed, optimizer__lr=0.01)
        write_job(tmp_path, f"b{seed}", accuracy=accuracy + 0.1, seed=seed, optimizer__lr=0.02)
    write_job(tmp_path, "b3", status="failed", seed=3, optimizer__lr=0.02)
    write_job(tmp_path, "b4", status="pruned", accuracy=0.1, seed=4, optimizer__lr=0.02)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "result.json").touch()
    better, worse = group_jobs(read_jobs(tmp_path))
    assert (better.label, worse.label) == ("lr=0.02", "lr=0.01")
    assert better.validation.mean == pytest.approx(0.91)
    assert (better.validation.n, len(better.jobs)) == (2, 4)  # pruned and failed: in no mean
    assert sorted(job.name for job in worse.jobs) == ["a1", "a2"]


def test_groups_are_sorted_by_validation_not_by_test(tmp_path: Path) -> None:
    for name, lr, accuracy, test in (("a", 0.1, 0.9, 0.1), ("b", 0.2, 0.8, 0.9)):
        write_job(
            tmp_path, name, accuracy=accuracy, optimizer__lr=lr, result={"test/accuracy": test}
        )
    first, second = group_jobs(read_jobs(tmp_path))
    assert (first.validation.mean, first.test.mean) == (0.9, 0.1)
    assert (second.validation.mean, second.test.mean) == (0.8, 0.9)


def test_runs_that_differ_only_in_the_seed_are_one_group(tmp_path: Path) -> None:
    write_job(tmp_path, "a", seed=1)
    write_job(tmp_path, "b", seed=2)
    (group,) = group_jobs(read_jobs(tmp_path))
    assert (group.label, group.validation.n) == (ALL_RUNS, 2)
