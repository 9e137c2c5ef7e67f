"""Means over seeds, their confidence intervals, and comparisons of groups on the same examples.

The interval equals the enumeration of all resamples and SciPy's bootstrap, the p value that of all
permutations and SciPy's tests.
"""

import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rnn_lab.reports.sweep.groups import (
    ALL_RUNS,
    MAX_GROUPS,
    choose_groups,
    compare_groups,
    compare_paired,
    correct_p_values,
    group_jobs,
    group_notes,
    repeated_over,
    seed_stats,
)
from rnn_lab.reports.sweep.jobs import read_jobs
from rnn_lab.reports.sweep.report import summary_rows
from rnn_lab.runs.run_config import ABSENT
from tests.reports.sweep.test_report import reported
from tests.reports.sweep_folders import write_correctness, write_job


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


def test_the_interval_of_accuracies_has_no_impossible_value() -> None:
    found = seed_stats([0.9375, 1.0], shares=True)  # 57 % to 137 % without
    assert found.low == pytest.approx(0.5717, abs=1e-3) and found.high == 1.0
    assert seed_stats([0.0, 0.1], shares=True).low == 0.0


def test_seeds_of_one_fold_count_by_their_mean() -> None:
    values, folds = [0.9, 0.7, 0.6, 0.8, 0.8], [0, 1, 1, 0, 2]
    found, means = seed_stats(values, folds=folds), seed_stats([0.85, 0.65, 0.8])
    assert found.n == 5
    assert (found.mean, found.deviation, found.low, found.high) == pytest.approx(
        (means.mean, means.deviation, means.low, means.high)
    )
    assert seed_stats([0.9, 0.8], folds=[1, 1]) == seed_stats([0.9, 0.8])  # one part, two seeds


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


def test_a_group_is_labelled_with_what_auto_became(tmp_path: Path) -> None:
    def job(name: str, seed: int, batch: int, pooling: str = "auto", **more: Any) -> None:
        data = {"name": "mine", "options": {"batch_size": batch}}
        model = {"name": "gru", "pooling": "last" if pooling == "auto" else pooling}
        result = {"model": model, "data": data}
        write_job(tmp_path, name, seed=seed, model__pooling=pooling, result=result, **more)

    job("a1", 1, batch=16, data__batch_size="auto", accuracy=0.9)
    job("a2", 2, batch=32, data__batch_size="auto", accuracy=0.9)
    job("a3", 3, batch=0, data__batch_size="auto", status="failed")
    job("b1", 1, batch=64, pooling="mean", accuracy=0.8)
    first, second = group_jobs(read_jobs(tmp_path))
    assert [job.name for job in first.jobs] == ["a1", "a2", "a3"]
    # By the seed, and so by the split, auto became 16 or 32.
    assert (first.label, second.label) == (
        "pooling=last, batch_size=auto",
        "pooling=mean, batch_size=64",
    )
    columns, *rows = [[row[0], *row[3:5]] for row in summary_rows(read_jobs(tmp_path))]
    assert columns == ["folder", "model.pooling", "data.batch_size"]
    assert rows == [
        ["a1", "last", "16"],
        ["a2", "last", "32"],
        ["b1", "mean", "64"],
        ["a3", "auto", "auto"],
    ]


def test_auto_that_became_a_value_of_another_group_has_a_label_of_its_own(tmp_path: Path) -> None:
    for name, pooling, accuracy in (("a", "auto", 0.9), ("b", "max", 0.8), ("c", "mean", 0.7)):
        became = "max" if pooling == "auto" else pooling
        result = {"model": {"name": "gru", "pooling": became}}
        write_job(tmp_path, name, model__pooling=pooling, result=result, accuracy=accuracy)
    jobs = read_jobs(tmp_path)
    assert [group.label for group in group_jobs(jobs)] == [
        "pooling=auto (max)",
        "pooling=max",
        "pooling=mean",
    ]
    assert [row[3] for row in summary_rows(jobs)[1:]] == ["auto (max)", "max", "mean"]


@pytest.mark.parametrize("status", ["finished", "pruned"])
def test_runs_with_and_without_an_option_are_two_groups(tmp_path: Path, status: str) -> None:
    for seed in (1, 2):
        write_job(tmp_path, f"a{seed}", seed=seed, status=status, accuracy=0.9,
                  optimizer__amsgrad=True, correct=[1, 1, 1, 0])  # fmt: skip
        write_job(tmp_path, f"b{seed}", seed=seed, status=status, accuracy=0.8,
                  correct=[1, 0, 0, 0])  # fmt: skip
    jobs = read_jobs(tmp_path)
    groups = {group.label: group for group in group_jobs(jobs)}
    assert {label: [job.name for job in group.jobs] for label, group in groups.items()} == {
        "amsgrad=true": ["a1", "a2"],
        f"amsgrad={ABSENT}": ["b1", "b2"],
    }
    assert [row[3] for row in summary_rows(jobs)] == ["optimizer.amsgrad", *["true"] * 2, "", ""]
    if status == "finished":
        means = [group.validation.mean for group in groups.values()]
        assert means == pytest.approx([0.9, 0.8])
        (pair,) = compare_groups(group_jobs(jobs))
        assert pair.test is not None and pair.test.difference == 0.5


def test_a_group_without_an_option_is_labelled_with_the_others(tmp_path: Path) -> None:
    for i, more in enumerate(({}, {"optimizer__amsgrad": True})):
        for lr in (0.1, 0.2):
            write_job(tmp_path, f"{i} {lr}", accuracy=0.9 - lr - i / 3, optimizer__lr=lr, **more)
    assert [group.label for group in group_jobs(read_jobs(tmp_path))] == [
        "lr=0.1", "lr=0.2", "lr=0.1, amsgrad=true", "lr=0.2, amsgrad=true",
    ]  # fmt: skip


def test_runs_that_repeat_a_seed_are_named(tmp_path: Path) -> None:
    """Their texts were copied to another folder, which `${oc.env:TMPDIR}` named in each job."""
    for name, seed in (("a1", 1), ("a2", 2), ("again", 1)):
        write_job(tmp_path, name, seed=seed, data__train_path="${oc.env:TMPDIR}/reviews.csv")
    write_job(tmp_path, "failed", seed=2, status="failed")
    (line,) = group_notes(group_jobs(read_jobs(tmp_path)))
    assert line.startswith("a1, again: the same configuration and seed")


def test_runs_of_a_group_with_different_versions_are_named(tmp_path: Path) -> None:
    def job(name: str, torch: str, commit: str | None, **more: Any) -> None:
        trained = {"versions": {"python": "3.11", "torch": torch}, "git_commit": commit}
        write_job(tmp_path, name, result=trained, **more)

    job("a1", "2.13.0", "abc", seed=1)
    job("b1", "2.3.0", "def", seed=1, model__name="lstm")  # another group
    write_job(tmp_path, "old", seed=9)  # recorded none
    assert group_notes(group_jobs(read_jobs(tmp_path))) == []
    job("a2", "2.3.0", "abc", seed=2)
    jobs = read_jobs(tmp_path)
    (line,) = group_notes(group_jobs(jobs))
    assert line == (
        "Runs of one group were trained with different versions, of torch 2.13.0 (a1), 2.3.0 (a2): "
        "they may differ for that reason too"
    )
    assert line in reported(tmp_path)
    job("a3", "2.13.0", "abc-dirty", seed=3)
    assert len(group_notes(group_jobs(read_jobs(tmp_path)))) == 2


def test_runs_of_a_group_on_different_machines_are_named(tmp_path: Path) -> None:
    def job(name: str, precision: str, became: str, *, devices: int = 1, **more: Any) -> None:
        trainer = {"precision": became, "accelerator": "gpu", "devices": devices, "patience": name}
        write_job(tmp_path, name, trainer__precision=precision, result={"trainer": trainer}, **more)

    job("a1", "auto", "bf16-mixed", seed=1)
    job("a2", "auto", "bf16-mixed", seed=2)
    job("a3", "auto", "bf16-mixed", seed=3, status="failed")
    job("b1", "32-true", "32-true", seed=1)
    write_job(tmp_path, "old", seed=5, trainer__precision="auto")  # recorded no precision
    assert group_notes(group_jobs(read_jobs(tmp_path))) == []
    job("a4", "auto", "32-true", seed=4)
    jobs = read_jobs(tmp_path)
    (line,) = group_notes(group_jobs(jobs))
    assert line == (
        "Runs of one group had different machines, and trainer.precision became bf16-mixed "
        "(a1, a2), 32-true (a4). Give it a value that each machine has"
    )
    assert jobs[2].option("trainer.precision") == "auto (32-true)"  # b1 names it
    assert line in reported(tmp_path)
    assert f"<bdi>{line}</bdi>" in (tmp_path / "sweep.html").read_text()
    job("b2", "32-true", "32-true", seed=2, devices=2)
    notes = group_notes(group_jobs(read_jobs(tmp_path)))
    assert [note.partition(" (")[0].rpartition(" and ")[2] for note in notes] == [
        "trainer.devices became 1", "trainer.precision became bf16-mixed",
    ]  # fmt: skip


OTHER_EXAMPLES = "different test examples or labels"


def test_equals_the_enumeration_of_all_resamples_and_permutations() -> None:
    first = np.array([1, 1, 0.5, 1, 0, 1.0])
    second = np.array([0, 1, 1, 0.5, 0, 0.5])
    differences = first - second
    every = np.array([np.mean(drawn) for drawn in product(differences, repeat=6)])  # 46,656
    observed = differences.mean()
    found = compare_paired(first, second, resamples=200_000, seed=1)
    assert found.difference == pytest.approx(observed)
    assert (found.low, found.high) == pytest.approx(np.quantile(every, [0.025, 0.975]), abs=0.021)
    permuted = np.array(list(product([-1, 1], repeat=6))) @ differences / 6
    exact_p = np.mean(np.abs(permuted) >= abs(observed) - 1e-12)
    assert found.p_value == pytest.approx(exact_p, abs=0.005)


def test_equals_scipys_on_many_examples() -> None:
    random = np.random.default_rng(0)
    first = (random.random(800) < 0.85).astype(float)
    second = np.where(random.random(800) < 0.8, first, random.random(800) < 0.7)
    found = compare_paired(first, second)
    reference = stats.bootstrap(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        paired=True, vectorized=True, batch=1000, method="percentile", n_resamples=10_000, rng=1,
    )  # fmt: skip
    interval = reference.confidence_interval
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.0015)
    shares = (first + second + (random.random((2, 800)) < 0.8)) / 4  # of four seeds
    permuted = stats.permutation_test(
        tuple(shares),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples", vectorized=True, batch=1000, n_resamples=50_000, rng=1,
    )  # fmt: skip
    assert compare_paired(*shares).p_value == pytest.approx(permuted.pvalue, abs=0.02)


@pytest.mark.parametrize(("wins", "losses"), [(0, 1), (4, 0), (1, 5), (30, 14)])
def test_the_p_value_of_one_seed_is_that_of_mcnemars_exact_test(wins: int, losses: int) -> None:
    first, second = np.ones(100), np.ones(100)
    first[:losses] = 0
    second[losses : losses + wins] = 0
    exact = stats.binomtest(wins, wins + losses).pvalue
    assert compare_paired(first, second).p_value == pytest.approx(exact, abs=0.01)


def test_p_values_of_equal_models_are_uniform_but_for_ties() -> None:
    random = np.random.default_rng(5)
    found = [
        compare_paired(*(random.random((2, 500)) < 0.8).astype(float), resamples=1000).p_value
        for _ in range(300)
    ]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.04, abs=0.035)
    assert 0.47 < np.mean(found) < 0.6


def test_equal_and_opposite_models() -> None:
    same = np.array([1.0, 0, 1])
    found = compare_paired(same, same)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    far = compare_paired(np.ones(100), np.zeros(100), resamples=99)
    assert (far.difference, far.p_value) == (1, 0.01)  # never zero
    assert compare_paired(same, 1 - same) == compare_paired(same, 1 - same)  # the seed is fixed


def test_holms_correction_by_hand() -> None:
    assert correct_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert correct_p_values([0.6, 0.7]) == [1, 1]
    assert correct_p_values([]) == []


def two_models(sweep: Path, **options: object) -> None:
    write_job(sweep, "lstm", accuracy=0.9, correct=[1, 1, 1, 0], model__name="lstm", **options)
    write_job(sweep, "gru", accuracy=0.8, correct=[1, 0, 0, 0], model__name="gru", **options)


def test_examples_are_matched_by_name(tmp_path: Path) -> None:
    two_models(tmp_path)
    # The same four examples in another order: 0, 2 (neg) and 1, 3 (pos) keep their labels.
    names = [f"test/{i}.txt" for i in (2, 3, 0, 1)]
    write_correctness(tmp_path / "gru", [1, 1, 0, 0], names)
    (pair,) = compare_groups(group_jobs(read_jobs(tmp_path)))
    first, second = np.array([1, 1, 1, 0.0]), np.array([0, 0, 1, 1.0])
    assert pair.test == compare_paired(first, second)
    assert pair.examples == 4
    assert pair.corrected_p == pair.test.p_value


def test_seeds_are_averaged_per_example(tmp_path: Path) -> None:
    two_models(tmp_path, seed=1)
    write_job(tmp_path, "2", accuracy=0.9, correct=[0, 1, 0, 0], model__name="lstm", seed=2)
    (pair,) = compare_groups(group_jobs(read_jobs(tmp_path)))
    assert pair.test == compare_paired(np.array([0.5, 1, 0.5, 0]), np.array([1, 0, 0, 0.0]))
    assert pair.test.first == 0.5


@pytest.mark.parametrize(
    ("names", "right", "says"),
    [
        (["a", "b", "c", "d"], [1, 0, 0, 0], OTHER_EXAMPLES),
        (None, [1, 0], "2 test examples against 4"),
        (
            [f"test/{i}.txt" for i in (1, 0, 2, 3)],
            [1, 0, 0, 0],
            "different test examples or labels",
        ),
    ],
)
def test_different_examples_are_not_compared(
    tmp_path: Path, names: list[str] | None, right: list[bool], says: str
) -> None:
    two_models(tmp_path)
    write_correctness(tmp_path / "gru", right, names)
    (pair,) = compare_groups(group_jobs(read_jobs(tmp_path)))
    assert pair.test is None and pair.corrected_p is None
    assert says in pair.reason


@pytest.mark.parametrize("key", ["test_fingerprint", "fingerprint"])  # the latter: of old runs
def test_other_texts_with_the_same_names_and_labels_are_not_compared(
    tmp_path: Path, key: str
) -> None:
    data = {"name": "files", "fingerprint": "f", key: "a"}
    two_models(tmp_path, result={"data": data})
    (pair,) = compare_groups(group_jobs(read_jobs(tmp_path)))
    assert pair.test is not None
    write_job(tmp_path, "rnn", correct=[1] * 4, accuracy=0.7, model__name="rnn",
              result={"data": data | {key: "b"}})  # fmt: skip
    reasons = [pair.reason for pair in compare_groups(group_jobs(read_jobs(tmp_path)))]
    assert reasons == ["", *["different test texts with the same names"] * 2]


def test_runs_trained_on_other_texts_are_compared_on_the_same_test_texts(tmp_path: Path) -> None:
    for name, correct in (("small", [1, 0, 0, 0]), ("large", [1, 1, 1, 0])):
        write_job(
            tmp_path, name, correct=correct, data__train_path=f"{name}.csv",
            result={"data": {"name": "files", "fingerprint": name, "test_fingerprint": "t"}},
        )  # fmt: skip
    (pair,) = compare_groups(group_jobs(read_jobs(tmp_path)))
    assert pair.test is not None and pair.examples == 4


def test_a_damaged_file_is_named_and_other_groups_are_compared(tmp_path: Path) -> None:
    two_models(tmp_path)
    write_job(tmp_path, "rnn", correct=[1] * 4, accuracy=0.7, model__name="rnn")
    (tmp_path / "rnn" / "predictions.csv").write_text("name,label\n")
    pairs = compare_groups(group_jobs(read_jobs(tmp_path)))
    assert [pair.test is not None for pair in pairs] == [True, False, False]
    assert "predictions.csv" in pairs[1].reason


def test_validation_alone_chooses_what_is_compared(tmp_path: Path) -> None:
    for i in range(10):
        model, accuracy = ("gru", 0.9 - i / 100) if i < 8 else ("lstm", 0.5 - i / 100)
        write_job(
            tmp_path, f"{i}", accuracy=accuracy, model__name=model, optimizer__lr=float(i),
            examples=2, result={"test/accuracy": i / 10},
        )  # fmt: skip
    write_job(tmp_path, "f", status="failed", model__name="rnn")
    groups = group_jobs(read_jobs(tmp_path))
    chosen = [group.jobs[0].name for group in choose_groups(groups)]
    assert chosen == ["0", "1", "2", "3", "4", "8"]  # the best of each model, then the next best
    assert len(compare_groups(groups)) == MAX_GROUPS * (MAX_GROUPS - 1) // 2


def write_fold(
    sweep: Path, fold: int, correct: list[int], accuracy: float = 0.9, **options
) -> Path:
    """Write a run whose test examples are those of the fold alone."""
    config = {"source": "files", "batch_size": 64, "split_seed": 0, "folds": 3, "fold": fold}
    data = {"name": "files", "fingerprint": "f", "num_examples": {"test": len(correct)}}
    name = f"{options.get('model__name', 'gru')}_{fold}_{options.get('seed', 1)}"
    folder = write_job(
        sweep,
        name,
        accuracy=accuracy,
        correct=correct,
        data=config,
        result={"data": data},
        **options,
    )
    write_correctness(folder, correct, [f"a.csv:{10 * fold + i}" for i in range(len(correct))])
    return folder


def test_folds_are_one_group_with_the_accuracy_of_all_examples(tmp_path: Path) -> None:
    correct = ([1, 1, 0], [1, 0, 0], [1, 1, 1, 1])
    for fold, right in enumerate(correct):
        write_fold(tmp_path, fold, right, accuracy=0.8 + fold / 100)
    (group,) = groups = group_jobs(read_jobs(tmp_path))
    assert (group.label, group.folds, group.validation.n) == (ALL_RUNS, 3, 3)
    assert group.validation.mean == pytest.approx(0.81)
    assert group.test == seed_stats(
        sorted(group.test.values, key=group.test.values.index), shares=True
    )
    assert group.test.mean == pytest.approx((2 / 3 + 1 / 3 + 1) / 3)
    assert (group.pooled_accuracy, group.pooled_from) == (pytest.approx(7 / 10), "")
    assert repeated_over(groups) == "folds"
    write_fold(tmp_path, 0, [0, 0, 0], seed=2)
    (group,) = groups = group_jobs(read_jobs(tmp_path))
    assert (group.folds, group.validation.n, repeated_over(groups)) == (3, 4, "seeds and folds")
    assert group.pooled_accuracy == pytest.approx(7 / 13)
    assert group.pooled_from == "4 of 6 runs, 13 examples"
    assert group.test.mean == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)


def test_an_incomplete_cross_validation_says_of_how_many_folds_it_is(tmp_path: Path) -> None:
    write_fold(tmp_path, 0, [1, 1, 0])
    write_fold(tmp_path, 2, [1, 1, 1, 1])  # fold 1 has not run
    said, page = reported(tmp_path), (tmp_path / "sweep.html").read_text()
    assert "85.71 % (2 of 3 folds, 7 examples)" in said
    assert "85.71 % (2 of 3 folds, 7 examples)" in page
    write_fold(tmp_path, 1, [1, 1, 1], status="failed")
    (group,) = group_jobs(read_jobs(tmp_path))
    assert group.pooled_from == "2 of 3 folds, 7 examples"
    shutil.copytree(tmp_path / "gru_0_1", tmp_path / "copy")
    (group,) = group_jobs(read_jobs(tmp_path))
    assert group.pooled_from == "2 of 3 folds, 10 examples"


def test_cross_validations_are_compared_on_all_examples(tmp_path: Path) -> None:
    for fold, (first, second) in enumerate((([1, 1], [1, 0]), ([1, 0], [0, 0]), ([1, 1], [1, 1]))):
        write_fold(tmp_path, fold, first, accuracy=0.9, model__name="lstm")
        write_fold(tmp_path, fold, second, accuracy=0.8, model__name="gru")
    groups = group_jobs(read_jobs(tmp_path))
    (pair,) = compare_groups(groups)
    assert pair.examples == 6 and pair.test is not None
    assert (pair.test.first, pair.test.second) == pytest.approx((5 / 6, 3 / 6))
    write_correctness(tmp_path / "gru_2_1", [1, 1], ["a.csv:0", "a.csv:1"])
    (pair,) = compare_groups(groups)
    assert "two folds have the same test example" in pair.reason
