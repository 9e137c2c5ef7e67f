"""Find the runs of a sweep that read other texts than the rest, and say why they did."""

from collections.abc import Sequence
from typing import Any

from rnn_lab.data.options import TextOptions
from rnn_lab.reports.sweep.jobs import JobSummary, format_names
from rnn_lab.reports.sweep.options import FOLD
from rnn_lab.runs.result_json import option_key
from rnn_lab.runs.run_config import RawConfig, resolve
from rnn_lab.validation import FINGERPRINT_EXCLUDED

SPLIT_SEED = "data.split_seed"
_TEST_FRACTION = "data.test_fraction"  # of the sources that may cut the test split themselves
# They decide which texts validate; the first of them only those that are split off.
_OF_VALIDATION = ("data.train_size", "data.val_fraction", "data.val_path", "data.val_split")
# They decide how texts become batches, not which texts there are.
_OF_BATCHES = {f"data.{name}" for name in TextOptions.model_fields} - {
    *("data.source", "data.train_size")
}


def text_options(config: RawConfig) -> dict[str, Any]:
    """Return the options of a run that decide which texts it reads and how it splits off a test."""
    names = [
        name
        for name in config
        if name.startswith("data.") and not {name} & (_OF_BATCHES | FINGERPRINT_EXCLUDED)
    ]
    names += [SPLIT_SEED] if _TEST_FRACTION in config and SPLIT_SEED in config else []
    return {name: resolve(config, name) for name in names}


def varied_text_options(jobs: Sequence[JobSummary]) -> list[str]:
    """Return the `text_options`, except the fold, that have several values in `jobs`."""
    values: dict[str, set[tuple[str, Any]]] = {}
    for job in jobs:
        for name, value in text_options(job.config).items():
            values.setdefault(name, set()).add(option_key(value))
    return [name for name, found in values.items() if len(found) > 1 and name != FOLD]


def changed_texts(jobs: Sequence[JobSummary]) -> dict[str, int]:
    """Return the runs whose files have changed, by name, with a number for each change."""
    versions = _versions([job for job in jobs if job.data and job.config])
    return {
        job.name: number
        for _, *others in versions
        for number, other in enumerate(others, start=1)
        for job in other
    }


def text_notes(jobs: Sequence[JobSummary]) -> list[str]:
    """Return a line for each reason for which finished runs read or tested on other texts."""
    known = [job for job in jobs if job.status == "finished" and job.data and job.config]
    return [*_changed_texts(known), *_different_tests(known), *_different_validations(known)]


def _versions(jobs: Sequence[JobSummary]) -> list[list[list[JobSummary]]]:
    """Return the runs with the same options of texts, those with equal texts together.

    The most frequent texts are first.
    """
    of_options: dict[Any, dict[str, list[JobSummary]]] = {}
    for job in jobs:
        key = tuple((name, option_key(v)) for name, v in text_options(job.config).items())
        of_options.setdefault(key, {}).setdefault(job.data, []).append(job)
    return [sorted(found.values(), key=len, reverse=True) for found in of_options.values()]


def _changed_texts(jobs: Sequence[JobSummary]) -> list[str]:
    """Name the runs whose texts differ although their options do not: files were edited."""
    return [
        f"{format_names(other)}: read other texts than {format_names(most)}, though the options "
        "are the same: files have changed. Their metrics are not comparable; start another sweep "
        "for changed files"
        for most, *others in _versions(jobs)
        for other in others
    ]


def _different_tests(jobs: Sequence[JobSummary]) -> list[str]:
    """Name the options by which runs were tested on other texts."""
    tests: dict[Any, set[str]] = {}  # by fold: those of a cross-validation belong together
    for job in jobs:
        tests.setdefault(option_key(job.config.get(FOLD)), set()).add(job.test_data)
    if all(len(found) < 2 for found in tests.values()):
        return []
    lines, varied = [], varied_text_options(jobs)
    if SPLIT_SEED in varied:
        lines.append(
            f"Each value of {SPLIT_SEED} has another test split, and runs are compared on equal "
            f"ones only. {SPLIT_SEED}=1 tests all runs on the same texts"
        )
    if others := [name for name in varied if name != SPLIT_SEED]:
        lines.append(
            f"Runs that differ in {', '.join(others)} were tested on other texts: their metrics "
            "are not comparable"
        )
    return lines


def _different_validations(jobs: Sequence[JobSummary]) -> list[str]:
    """Name the options by which runs on one source were validated, and ranked, on other texts."""
    varied = [
        name
        for name in ("data.source", *_OF_VALIDATION)
        if len({option_key(resolve(job.config, name)) for job in jobs}) > 1
    ]
    has_one_size = len({job.validation_examples for job in jobs}) == 1
    if not varied or varied[0] == "data.source" or (varied == ["data.train_size"] and has_one_size):
        return []
    return [
        f"Runs that differ in {', '.join(varied)} were validated on other texts: do not compare "
        "their ranks. data.val_path of data=files names the same texts for all"
    ]
