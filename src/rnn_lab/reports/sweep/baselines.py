"""The baselines of the runs of a sweep: simple classifiers on the same examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_lab.models.metric_table import MetricMode
from rnn_lab.reports.formatting import format_metric, order_metrics, shorten
from rnn_lab.reports.run_summary import BASELINE_NAMES, is_worse
from rnn_lab.reports.sweep.jobs import JobSummary, sweep_mode, sweep_monitor
from rnn_lab.reports.sweep.options import format_value, short_names
from rnn_lab.reports.sweep.texts import SPLIT_SEED, changed_texts, text_options, varied_text_options
from rnn_lab.runs.jobs import DEFAULT_MONITOR
from rnn_lab.runs.result_json import option_key


@dataclass(frozen=True)
class BaselineSummary:
    """One baseline, over the finished runs with the same texts."""

    name: str  # as in tables
    texts: str  # how the texts differ from those of other runs; "": all have the same
    metrics: dict[str, float]  # val/ and test/, means over the runs
    compared: str  # the validation metric by which runs are counted as below it
    runs: int  # that have it
    losing: int  # runs below it

    def format(self, metric: str) -> str:
        """Return a metric as tables show it."""
        return format_metric(metric, self.metrics.get(metric))

    def format_losing(self) -> str:
        """Return "2 of 6"; "" where no run was validated."""
        return f"{self.losing} of {self.runs}" if self.runs else ""


def baseline_columns(jobs: Sequence[JobSummary]) -> list[tuple[str, str]]:
    """Return each baseline with each of its metrics, that any job has."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        for baseline, metrics in job.baselines.items():
            found.setdefault(baseline, []).extend(metrics)
    return [(name, metric) for name in _ordered(found) for metric in order_metrics(found[name])]


def summarize_baselines(jobs: Sequence[JobSummary]) -> list[BaselineSummary]:
    """Return every baseline of the finished jobs, once for each choice of texts.

    Its metrics are means over the runs, and so over their seeds, splits and folds.
    """
    known = [job for job in jobs if job.status == "finished" and job.baselines]
    varied = [name for name in varied_text_options(known) if name != SPLIT_SEED]
    monitor = sweep_monitor(jobs)
    changes = changed_texts(known)
    of_texts: dict[Any, list[JobSummary]] = {}
    for job in known:
        options = text_options(job.config)
        key = tuple(option_key(options.get(name)) for name in varied)
        of_texts.setdefault((changes.get(job.name, 0), *key), []).append(job)
    return [
        _summarize(name, [job for job in same if name in job.baselines], varied, monitor, change)
        for (change, *_), same in of_texts.items()
        for name in _ordered({name: None for job in same for name in job.baselines})
    ]


def _summarize(
    name: str, jobs: Sequence[JobSummary], varied: Sequence[str], monitor: str, change: int
) -> BaselineSummary:
    values: dict[str, list[float]] = {}
    for job in jobs:
        for metric, value in job.baselines[name].items():
            if value is not None:
                values.setdefault(metric, []).append(value)
    compared = monitor if monitor in values else DEFAULT_MONITOR
    mode = sweep_mode(jobs, compared)
    validated = [job for job in jobs if compared in job.metrics]  # not where nothing was trained
    losing = [job for job in validated if _loses(job, name, compared, mode)]
    short, options = short_names(varied), text_options(jobs[0].config)
    texts = [
        f"{short[option]}={shorten(format_value(options[option]), 40)}"
        for option in varied
        if option in options
    ]
    if change:
        texts.append("changed files" if change == 1 else f"changed files {change}")
    return BaselineSummary(
        name=BASELINE_NAMES.get(name, name),
        texts=", ".join(texts),
        metrics={metric: float(np.mean(values[metric])) for metric in order_metrics(values)},
        compared=compared,
        runs=len(validated),
        losing=len(losing),
    )


def _loses(job: JobSummary, baseline: str, metric: str, mode: MetricMode) -> bool:
    score, own = job.baselines[baseline].get(metric), job.metrics.get(metric)
    return score is not None and (own is None or is_worse(own, score, mode))


def _ordered(names: dict[str, Any]) -> list[str]:
    known = list(BASELINE_NAMES)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))
