"""Jobs of a sweep as processes started by submitit: on this machine or in Slurm's queue.

A job that dies is reported immediately and does not affect the others; repeating the command trains
what it lacks. Only submitit puts a job back into the queue; see training.trainer for Lightning.
"""

import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, filter_overrides
from hydra.plugins.launcher import Launcher

from rnn_lab.errors import ConfigError
from rnn_lab.paths import project_root
from rnn_lab.process import num_cores
from rnn_lab.sweeps.launchers.common import dead_job_result, is_done, resolve_n_jobs, run_inline

Submit = Callable[[list[int]], list[submitit.Job[JobReturn]]]
HasEnded = Callable[[submitit.Job[JobReturn]], str | None]

# From the end of a job to giving up on its result: shared disks are late.
_RESULT_LAG = 5.0  # seconds
# States of jobs that Slurm will not run again. It may run a preempted one again.
_FINAL_STATES = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "TIMEOUT"),
}


def launch_local(
    launcher: Any, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Run each job as a process of this machine, `n_jobs` at a time; return them in order."""
    params = dict(launcher.params)
    at_a_time = resolve_n_jobs(params.pop("n_jobs"), "hydra.launcher.n_jobs")
    python = _python(threads=max(1, num_cores() // at_a_time), visible_gpus=True)
    executor = submitit.AutoExecutor(
        _new_folder(params.pop("submitit_folder")), cluster="local", local_python=python
    )
    executor.update_parameters(**params)

    def has_ended(job: submitit.Job[JobReturn]) -> str | None:
        return f"process {job.job_id} ended" if job.done() else None

    submit = _submitter(launcher, executor, job_overrides, initial_job_idx)
    return _Jobs(launcher, job_overrides, initial_job_idx).run(submit, has_ended, at_a_time)


def launch_slurm(
    launcher: Any, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
) -> list[JobReturn]:
    """Submit the jobs as one array and wait for them; return them in order.

    Raises:
        ConfigError: there is no Slurm here, or it does not take the jobs.
    """
    params = {key: value for key, value in launcher.params.items() if value is not None}
    try:
        executor = submitit.AutoExecutor(
            _new_folder(params.pop("submitit_folder")),
            cluster="slurm",
            slurm_python=_python(threads=params.get("cpus_per_task", 1)),
            slurm_max_num_timeout=params.pop("max_num_timeout"),
        )
    except RuntimeError as error:
        raise ConfigError(
            "hydra/launcher=submitit_slurm: there is no srun on this machine. "
            "Choose from: basic, joblib, submitit_local"
        ) from error
    if cores_a_task := params.get("cpus_per_task"):  # srun does not take it from sbatch any more
        srun_args = params.get("srun_args", [])
        params["srun_args"] = [*srun_args, f"--cpus-per-task={cores_a_task}"]
    generic = submitit.AutoExecutor._typed_parameters()
    executor.update_parameters(
        **{key if key in generic else f"slurm_{key}": value for key, value in params.items()}
    )
    submit = _submitter(launcher, executor, job_overrides, initial_job_idx)
    queue = _Queue()
    jobs = _Jobs(launcher, job_overrides, initial_job_idx)
    try:
        return jobs.run(submit, queue.has_ended, len(job_overrides))
    except submitit.core.utils.FailedJobError as error:  # refused by sbatch
        reason = (str(error).strip() or str(error.__cause__)).splitlines()[-1]
        raise ConfigError(f"hydra/launcher=submitit_slurm: {reason}") from error
    except KeyboardInterrupt:
        if ids := " ".join(sorted({job.job_id.split("_")[0] for job in jobs.running.values()})):
            print(
                f"the jobs continue in Slurm; `scancel {ids}` stops them, and the same command "
                "with `sweep` waits for them",
                file=sys.stderr,
            )
        raise


class _Jobs:
    """The jobs of one batch, from submission to outcome."""

    def __init__(
        self, launcher: Launcher, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> None:
        self.launcher, self.overrides, self.first = launcher, job_overrides, initial_job_idx
        self.running: dict[int, submitit.Job[JobReturn]] = {}

    def run(self, submit: Submit, has_ended: HasEnded, at_a_time: int) -> list[JobReturn]:
        """Submit the jobs that are not done, wait for all, and return them in order."""
        returns: dict[int, JobReturn] = {}
        waiting = []
        for index, overrides in enumerate(self.overrides):
            if is_done(self.launcher, overrides):  # needs no node
                returns[index] = run_inline(self.launcher, overrides, self.first + index)
            else:
                waiting.append(index)
        while waiting or self.running:
            free = at_a_time - len(self.running)
            now, waiting = waiting[:free], waiting[free:]
            if now:
                self.running |= dict(zip(now, submit(now), strict=True))
            for index, job in list(self.running.items()):
                if end := self._outcome(index, job, has_ended):
                    returns[index] = end
                    del self.running[index]
            time.sleep(0.3)
        return [returns[index] for index in range(len(self.overrides))]

    def _outcome(
        self, index: int, job: submitit.Job[JobReturn], has_ended: HasEnded
    ) -> JobReturn | None:
        """Return the outcome of the job, NaN where it died; None while it runs."""
        first = job.task(0)  # of several processes, the one that returns the result
        why = None
        if not first.paths.result_pickle.exists():
            why = has_ended(job)
            if why is None or first.paths.result_pickle.exists():
                return None
        else:
            try:
                return first.results()[0]
            except submitit.core.utils.FailedJobError as error:
                why = _last_line(str(error))
        overrides = self.overrides[index]
        return dead_job_result(self.launcher, overrides, why=why, log=first.paths.stderr)


class _Queue:
    """The states of this user's jobs in Slurm, polled seldom.

    By squeue: sacct, which submitit uses, has no data where Slurm keeps no accounts.
    """

    def __init__(self) -> None:
        self._started = self._asked = time.monotonic()
        self._states: dict[str, str] = {}
        self._ended_at: dict[str, float] = {}

    def has_ended(self, job: submitit.Job[JobReturn]) -> str | None:
        """Return how the job ended; None where it has not, or its result may still arrive."""
        self._ask()
        state = self._states.get(job.job_id, "gone from the queue") if self._states else "UNKNOWN"
        if state not in _FINAL_STATES and state != "gone from the queue":
            self._ended_at.pop(job.job_id, None)
            return None
        now = time.monotonic()
        if now - self._ended_at.setdefault(job.job_id, now) < _RESULT_LAG:
            return None
        return f"Slurm job {job.job_id} is {state}"

    def _ask(self) -> None:
        now = time.monotonic()
        patience = min(30.0, max(2.0, (now - self._started) / 20))
        if now - self._asked < patience:
            return
        self._asked = now
        command = ["squeue", f"--user={os.getuid()}", "--noheader", "--array", "--states=all"]
        command.append("--format=%i %T")
        asked = subprocess.run(command, capture_output=True, text=True)
        if asked.returncode == 0:
            lines = (line.split() for line in asked.stdout.splitlines())
            self._states = {"": "", **{job: state for job, state, *_ in lines}}


def _submitter(
    launcher: Any,
    executor: submitit.AutoExecutor,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> Submit:
    """Return a function that submits the jobs of given indices and prints their ids."""

    def submit(indices: list[int]) -> list[submitit.Job[JobReturn]]:
        # The arguments of the __call__ of Hydra's launcher, which runs in the job.
        calls = [
            (
                list(job_overrides[index]),
                "hydra.sweep.dir",
                initial_job_idx + index,
                f"job_id_for_{initial_job_idx + index}",
                Singleton.get_state(),
            )
            for index in indices
        ]
        jobs = executor.map_array(launcher, *zip(*calls, strict=True))
        for index, job in zip(indices, jobs, strict=True):
            said = " ".join(filter_overrides(job_overrides[index]))
            print(f"{executor.cluster} job {job.job_id}: {said}", flush=True)
        return jobs

    return submit


def _python(*, threads: int, visible_gpus: bool = False) -> str:
    """Return the shell command of Python in a job.

    A job imports this package wherever it starts: from the clone if this process does, else as
    installed. Its number of threads is set before it imports torch. submitit hides all GPUs from
    local jobs, unless `visible_gpus`.
    """
    root = project_root()
    clone = [] if root is None else [str(root / "src")]
    paths = [*clone, *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    command = ["env"]
    if visible_gpus:
        if "CUDA_VISIBLE_DEVICES" in os.environ:
            variables["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            command += ["-u", "CUDA_VISIBLE_DEVICES"]
    command += [f"{name}={value}" for name, value in variables.items()]
    return shlex.join([*command, sys.executable])


def _new_folder(pattern: str) -> Path:
    """Return a new folder for the jobs of this launch.

    A job's result is a pickle, found by the job's number. Numbers repeat, those of processes after
    a restart for one, and the folder of a sweep may be untrusted: a result that was there before is
    never read.
    """
    path = Path(pattern)
    return path.parent / secrets.token_hex(4) / path.name


def _last_line(trace: str) -> str:
    lines = [line for line in trace.splitlines() if line.strip() and not line.startswith("---")]
    error = [line for line in lines if not line.startswith((" ", "You can check", "or at"))]
    return error[-1] if error else "it failed"
