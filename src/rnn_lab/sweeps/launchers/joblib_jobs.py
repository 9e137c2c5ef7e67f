"""Jobs in joblib's workers, where a worker that is killed ends all others.

The system kills the largest process when memory runs out, without an exception in it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from hydra.core.utils import JobReturn

from rnn_lab.sweeps.launchers.common import compose_job, dead_job_result, resolve_n_jobs

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[JobReturn]]


def launch(
    launcher: Any, launch_all: Launch, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Run the jobs by `launch_all`; those that a killed worker ended, once more.

    Those that were running when it died come last and one by one, so that none ends another. A job
    whose worker dies then is reported, and its value is NaN.
    """
    resolve_n_jobs(launcher.joblib["n_jobs"], "hydra.launcher.n_jobs")
    try:
        return list(launch_all(job_overrides, initial_job_idx))
    except BrokenProcessPool:
        if len(job_overrides) == 1:
            (overrides,) = job_overrides
            return [
                dead_job_result(launcher, overrides, why="its worker process was killed", log=None)
            ]
    running = [overrides for overrides in job_overrides if _was_running(launcher, overrides)]
    suspects = running or list(job_overrides)
    others = [overrides for overrides in job_overrides if overrides not in suspects]
    ends = {}
    for batch in filter(None, (others, *([one] for one in suspects))):
        for overrides, end in zip(
            batch, launch(launcher, launch_all, batch, initial_job_idx), strict=True
        ):
            ends[tuple(overrides)] = end
    return [ends[tuple(overrides)] for overrides in job_overrides]


def _was_running(launcher: Any, overrides: Sequence[str]) -> bool:
    _, folder = compose_job(launcher, overrides)
    return bool(folder.read("job")) and folder.status in ("unfinished", "running")
