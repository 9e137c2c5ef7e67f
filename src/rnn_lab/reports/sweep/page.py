"""Write sweep.html: a sweep on one page that needs no other file and no network."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.formatting import (
    format_count,
    format_metric,
    format_metric_name,
    format_percent,
)
from rnn_lab.reports.html import load_template, script_hash
from rnn_lab.reports.plot_style import COLOURS
from rnn_lab.reports.sweep.charts import (
    BAR_HEIGHT,
    BAR_WIDTH,
    OTHER_GROUPS,
    curve_chart,
    format_options,
    group_colours,
    parallel_chart,
    stats_bars,
)
from rnn_lab.reports.sweep.comparisons import (
    BOOTSTRAP_SEED,
    MAX_GROUPS,
    RESAMPLES,
    compare_groups,
)
from rnn_lab.reports.sweep.groups import group_jobs
from rnn_lab.reports.sweep.jobs import (
    JobSummary,
    format_statuses,
    has_issues,
    read_importances,
    smaller_is_better,
    sweep_metrics,
    sweep_monitor,
)
from rnn_lab.reports.sweep.options import format_value, resolve, short_names, swept_options
from rnn_lab.reports.sweep.scales import is_number

TEMPLATES = Path(__file__).parent


def write_page(folder: Path, jobs: Sequence[JobSummary]) -> Path:
    """Write sweep.html of the sweep in `folder` atomically."""
    path = folder / "sweep.html"
    text = render_page(folder, jobs)
    with atomic_write(path) as file:
        file.write(text)
    return path


def render_page(folder: Path, jobs: Sequence[JobSummary]) -> str:
    """Return the page as HTML."""
    template = load_template(
        TEMPLATES / "page.html",
        percent=format_percent,
        counted=format_count,
        metric=lambda value, metric: format_metric(metric, value),
        metric_name=format_metric_name,
        exact=format_value,
        brief=lambda value: format_value(value, exact=False),
        link=lambda job: f"./{quote(os.fsencode(job.folder.relative_to(folder)))}/",
        points=format_points,
        p_value=format_p_value,
        sort_key=lambda value: value if is_number(value) else "",
    )
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return template.render(
        name=folder.resolve().name,
        written_at=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        script=script,
        script_hash=script_hash(script),
        **_contents(folder, jobs),
    )


def _contents(folder: Path, jobs: Sequence[JobSummary]) -> dict[str, Any]:
    monitor = sweep_monitor(jobs)
    varied = swept_options([job.config for job in jobs])
    short = short_names(varied)
    groups = group_jobs(jobs)
    colours = group_colours(groups)
    labels = {job.name: format_options(job, varied, short) for job in jobs if job.config}
    bars, scale = stats_bars(groups)
    return {
        "jobs": jobs,
        "statuses": format_statuses(jobs),
        "monitor": monitor,
        "test_monitor": monitor.replace("val/", "test/"),
        "smaller_is_better": smaller_is_better,
        "other_monitors": sorted({j.monitor for j in jobs if j.monitor} - {monitor}),
        "varied": varied,
        "short": short,
        "values": {job.name: [resolve(job.config, name) for name in varied] for job in jobs},
        "metrics": sorted(sweep_metrics(jobs), key=lambda name: name != monitor),
        "best": [job for job in jobs if job.rank == 1],
        "synthetic": any(job.synthetic for job in jobs),
        "has_trials": any(job.trial is not None for job in jobs),
        "with_issues": [job for job in jobs if has_issues(job)],
        "groups": list(zip(groups, bars, strict=True)),
        "group_of": {job.name: str(i) for i, group in enumerate(groups) for job in group.jobs},
        "several_seeds": any(group.validation.n > 1 for group in groups),
        "scale": scale,
        "bar_width": BAR_WIDTH,
        "bar_height": BAR_HEIGHT,
        "colours": colours,
        "num_colours": len(COLOURS),
        "other_colour": OTHER_GROUPS,
        "curves": curve_chart(jobs, monitor, colours, labels),
        "parallel": parallel_chart(jobs, varied, monitor, labels),
        "importances": read_importances(folder, monitor),
        "comparisons": compare_groups(groups),
        "max_groups": MAX_GROUPS,
        "resamples": RESAMPLES,
        "bootstrap_seed": BOOTSTRAP_SEED,
    }


def format_points(share: float) -> str:
    """Return a difference of shares in percentage points: "+0.42"."""
    return f"{100 * share:+.2f}".replace("-", "\N{MINUS SIGN}")


def format_p_value(value: float) -> str:
    """Return "0.031", or two significant digits of a value below 0.01."""
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"
