"""sweep.html: a sweep to look at, in one file that needs no other and no network.

Folder names, option values and errors may be anything: the template escapes them, and the page
allows itself one script, its own, by its hash, and no address.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rnn_lab.io.atomic import atomic_write
from rnn_lab.reports.formatting import METRICS, figure, metric_words, number, percent
from rnn_lab.reports.sweep.charts import (
    BAR_HEIGHT,
    BAR_WIDTH,
    COLOURS,
    curve_chart,
    group_colours,
    option_words,
    parallel_chart,
    spread_bars,
)
from rnn_lab.reports.sweep.comparisons import MOST_GROUPS, RESAMPLES, SEED, compare_groups
from rnn_lab.reports.sweep.groups import group_jobs
from rnn_lab.reports.sweep.jobs import (
    JobSummary,
    read_importances,
    smaller_is_better,
    sweep_monitor,
)
from rnn_lab.reports.sweep.options import resolved, short_names, varied_options, written
from rnn_lab.reports.sweep.scales import is_number
from rnn_lab.reports.sweep.table import status_words

HERE = Path(__file__).parent


def write_page(folder: Path, jobs: Sequence[JobSummary]) -> Path:
    """Write sweep.html of the sweep in `folder`, whole or not at all."""
    path = folder / "sweep.html"
    text = page(folder, jobs)
    with atomic_write(path) as file:
        file.write(text)
    return path


def page(folder: Path, jobs: Sequence[JobSummary]) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "figure": lambda value, metric: figure(metric, value),
        "metric_words": metric_words,
        "number": number,
        "written": written,
        "brief": lambda value: written(value, whole=False),
        "address": lambda job: f"./{quote(os.fsencode(job.folder.relative_to(folder)))}/",
        "points": points,
        "p_value": p_value,
    }
    environment.tests["scalar"] = is_number
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        name=folder.resolve().name,
        written_at=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        script=script,
        script_hash=f"sha256-{digest}",
        **_contents(folder, jobs),
    )


def _contents(folder: Path, jobs: Sequence[JobSummary]) -> dict[str, Any]:
    monitor = sweep_monitor(jobs)
    varied = varied_options([job.config for job in jobs])
    short = short_names(varied)
    groups = group_jobs(jobs)
    colours = group_colours(groups)
    labels = {job.name: option_words(job, varied, short) for job in jobs if job.config}
    bars, scale = spread_bars(groups)
    best = [job for job in jobs if job.rank == 1]
    return {
        "jobs": jobs,
        "statuses": status_words(jobs),
        "monitor": monitor,
        "test_monitor": monitor.replace("val/", "test/"),
        "smaller": smaller_is_better(monitor),
        "other_monitors": sorted({j.monitor for j in jobs if j.monitor} - {monitor}),
        "varied": varied,
        "short": short,
        "values": {job.name: [resolved(job.config, name) for name in varied] for job in jobs},
        "columns": figure_columns(jobs, monitor),
        "best": best,
        "synthetic": any(job.synthetic for job in jobs),
        "has_trials": any(job.trial is not None for job in jobs),
        "troubled": [j for j in jobs if j.error or j.status in ("failed", "damaged", "unfinished")],
        "groups": list(zip(groups, bars, strict=True)),
        "group_of": {job.name: str(i) for i, group in enumerate(groups) for job in group.jobs},
        "several_seeds": any(group.validation.n > 1 for group in groups),
        "scale": scale,
        "bar_width": BAR_WIDTH,
        "bar_height": BAR_HEIGHT,
        "colours": colours,
        "told_apart": len(COLOURS),
        "curves": curve_chart(jobs, monitor, colours, labels),
        "parallel": parallel_chart(jobs, varied, monitor, labels),
        "importances": read_importances(folder, monitor),
        "comparisons": compare_groups(groups),
        "most_groups": MOST_GROUPS,
        "resamples": RESAMPLES,
        "bootstrap_seed": SEED,
    }


def figure_columns(jobs: Sequence[JobSummary], monitor: str) -> list[str]:
    """The figures that some job has: validation before test, the monitor first."""
    known = [f"{split}/{metric}" for split in ("val", "test") for metric in METRICS]
    found = [name for name in known if any(name in job.figures for job in jobs)]
    return sorted(found, key=lambda name: name != monitor)


def points(share: float) -> str:
    """Return a difference of shares as "+0.42"; in percentage points."""
    return f"{100 * share:+.2f}".replace("-", "\N{MINUS SIGN}")


def p_value(value: float) -> str:
    """Return "0.031", "0.0004" or, where no fewer resamples could have been, "0.0001"."""
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"
