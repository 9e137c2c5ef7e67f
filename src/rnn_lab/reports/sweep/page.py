"""Write sweep.html: a sweep on one page that needs no other file and no network."""

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.formatting import (
    format_metric,
    format_metric_name,
    format_signed,
    order_metrics,
)
from rnn_lab.reports.plot_style import COLOURS
from rnn_lab.reports.rendering import render_template
from rnn_lab.reports.sweep import charts, groups
from rnn_lab.reports.sweep.baselines import summarize_baselines
from rnn_lab.reports.sweep.jobs import (
    JobSummary,
    format_statuses,
    monitor_notes,
    read_importances,
    sweep_metrics,
    sweep_mode,
    sweep_monitor,
)
from rnn_lab.reports.sweep.options import format_value, short_names, swept_options
from rnn_lab.reports.sweep.texts import text_notes
from rnn_lab.runs.run_folder import RUN_PAGE, SWEEP_PAGE

TEMPLATES = Path(__file__).parent


def write_page(folder: Path, jobs: Sequence[JobSummary], output: Path) -> Path:
    """Write sweep.html of the sweep in `folder` to `output`, atomically."""
    path = output / SWEEP_PAGE
    text = render_page(folder, jobs, output)
    with atomic_write(path) as file:
        file.write(text)
    return path


def render_page(folder: Path, jobs: Sequence[JobSummary], output: Path | None = None) -> str:
    """Return the page as HTML. Its links lead from `output`, by default `folder`, to the jobs."""
    to_folder = os.path.relpath(folder.absolute(), (output or folder).absolute())
    filters: dict[str, Callable[..., Any]] = {
        "metric": lambda value, metric: format_metric(metric, value),
        "metric_name": format_metric_name,
        "exact": format_value,
        "brief": lambda value: format_value(value, exact=False),
        "link": lambda job: f"./{quote(_path_of(job, folder, to_folder))}/{_page_of(job)}",
        "points": lambda share: format_signed(100 * share),
        "p_value": lambda p: f"{p:.3f}" if p >= 0.01 else f"{p:.2g}",
        "sort_key": lambda value: value if charts.is_number(value) else "",
    }
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    monitor = sweep_monitor(jobs)
    varied = swept_options([job.config for job in jobs])
    found = groups.group_jobs(jobs)
    colours = charts.group_colours(found)
    bars, scale = charts.stats_bars(found)
    return render_template(
        TEMPLATES / "page.html",
        filters,
        name=folder.resolve().name,
        written_at=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        script=script,
        script_hash=f"sha256-{digest}",  # as a Content-Security-Policy names it
        jobs=jobs,
        statuses=format_statuses(jobs),
        monitor=monitor,
        test_monitor=monitor.replace("val/", "test/"),
        mode_of=partial(sweep_mode, jobs),
        varied=varied,
        short=short_names(varied),
        values={job.name: [job.option(name) for name in varied] for job in jobs},
        metrics=sorted(sweep_metrics(jobs), key=lambda name: name != monitor),
        groups=list(zip(found, bars, strict=True)),
        group_of={job.name: str(i) for i, group in enumerate(found) for job in group.jobs},
        several_seeds=any(group.validation.n > 1 for group in found),
        repeated_over=groups.repeated_over(found),
        has_folds=any(group.folds for group in found),
        scale=scale,
        bar_width=charts.BAR_WIDTH,
        bar_height=charts.BAR_HEIGHT,
        colours=colours,
        num_colours=len(COLOURS),
        other_colour=charts.OTHER_GROUPS,
        curves=charts.curve_chart(jobs, varied, monitor, colours),
        parallel=charts.parallel_chart(jobs, varied, monitor),
        importances=read_importances(folder, monitor),
        comparisons=groups.compare_groups(found),
        baselines=(baselines := summarize_baselines(jobs)),
        baseline_metrics=order_metrics(name for one in baselines for name in one.metrics),
        notes=[*monitor_notes(jobs), *text_notes(jobs), *groups.group_notes(found)],
        max_groups=groups.MAX_GROUPS,
        resamples=groups.RESAMPLES,
        resampling_seed=groups.RESAMPLING_SEED,
    )


def _page_of(job: JobSummary) -> str:
    """Return the name of the page of a run, "" where there is none: the link shows its folder."""
    return RUN_PAGE if (job.folder / RUN_PAGE).is_file() else ""


def _path_of(job: JobSummary, folder: Path, to_folder: str) -> bytes:
    return os.fsencode(os.path.normpath(to_folder / job.folder.relative_to(folder)))
