"""Jobs of a sweep in other processes: joblib's workers, or submitit's here or in Slurm's queue.

A job that dies is reported immediately and does not affect the others; repeating the command trains
what it lacks. Only submitit puts a job back into the queue; see training.trainer for Lightning.
"""

import math
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from rnn_lab.errors import ConfigError
from rnn_lab.overrides import shell_words
from rnn_lab.paths import project_root
from rnn_lab.process import num_cores
from rnn_lab.training.job_dir import JobDir

JobOverrides = Sequence[Sequence[str]]
Job = submitit.Job[JobReturn]
HasEnded = Callable[[Job], str | None]

# From the end of a job to giving up on its result: shared disks are late.
_RESULT_LAG = 5.0  # seconds
# States of jobs that Slurm will not run again. It may run a preempted one again.
_FINAL_STATES = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "TIMEOUT", "gone from the queue"),
}


def launch_joblib(
    launcher: Any,
    launch_all: Callable[[JobOverrides, int], Sequence[JobReturn]],
    job_overrides: JobOverrides,
    initial_job_idx: int,
) -> list[JobReturn]:
    """Run the jobs by `launch_all`; those that a killed worker ended, once more.

    The system kills the largest process when memory runs out, without an exception in it, and a
    worker that is killed ends all others. Those that were running when it died come last and one
    by one, so that none ends another. A job whose worker dies then is reported, and its value is
    NaN.
    """
    _resolve_n_jobs(launcher.joblib["n_jobs"])
    try:
        return list(launch_all(job_overrides, initial_job_idx))
    except BrokenProcessPool:
        if len(job_overrides) == 1:
            return [_dead_job(launcher, job_overrides[0], "its worker process was killed")]
    running = [overrides for overrides in job_overrides if _was_running(launcher, overrides)]
    suspects = running or job_overrides
    others = [overrides for overrides in job_overrides if overrides not in suspects]
    results: dict[tuple[str, ...], JobReturn] = {}
    for batch in filter(None, (others, *([one] for one in suspects))):
        returned = launch_joblib(launcher, launch_all, batch, initial_job_idx)
        results |= zip(map(tuple, batch), returned, strict=True)
    return [results[tuple(overrides)] for overrides in job_overrides]


def launch_local(
    launcher: Any, job_overrides: JobOverrides, initial_job_idx: int
) -> list[JobReturn]:
    """Run each job as a process of this machine, `n_jobs` at a time; return them in order."""
    params = dict(launcher.params)
    at_a_time = _resolve_n_jobs(params.pop("n_jobs"))
    executor = submitit.AutoExecutor(
        _new_folder(params.pop("submitit_folder")),
        cluster="local",
        local_python=_python(threads=max(1, num_cores() // at_a_time), visible_gpus=True),
    )
    executor.update_parameters(**params)

    batch = _Batch(launcher, executor, job_overrides, initial_job_idx)
    return batch.run(lambda job: f"process {job.job_id} ended" if job.done() else None, at_a_time)


def launch_slurm(
    launcher: Any, job_overrides: JobOverrides, initial_job_idx: int
) -> list[JobReturn]:
    """Submit the jobs as one array and wait for them; return them in order.

    Raises:
        ConfigError: there is no Slurm here, or it does not take the jobs; or a job would be
            signalled as it starts.
    """
    params = {key: value for key, value in launcher.params.items() if value is not None}
    minutes, delay = params.get("timeout_min"), params.get("signal_delay_s")
    if minutes is not None and delay is not None and delay >= 60 * minutes:
        raise ConfigError(
            f"hydra.launcher.signal_delay_s={delay}: a job would be signalled as it starts, with "
            f"hydra.launcher.timeout_min={minutes}; give a longer limit, or a shorter delay"
        )
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
        params["srun_args"] = [*params.get("srun_args", []), f"--cpus-per-task={cores_a_task}"]
    generic = submitit.AutoExecutor._typed_parameters()
    executor.update_parameters(
        **{key if key in generic else f"slurm_{key}": value for key, value in params.items()}
    )
    batch = _Batch(launcher, executor, job_overrides, initial_job_idx)
    try:
        return batch.run(_Queue().has_ended, len(job_overrides))
    except submitit.core.utils.FailedJobError as error:  # refused by sbatch
        reason = (str(error).strip() or str(error.__cause__)).splitlines()[-1]
        raise ConfigError(f"hydra/launcher=submitit_slurm: {reason}") from error
    except KeyboardInterrupt:
        if ids := " ".join(sorted({job.job_id.split("_")[0] for job in batch.running.values()})):
            line = f"the jobs continue in Slurm; `scancel {ids}` stops them"
            if "sweep" in launcher.config:  # of train, and not of predict
                line += ", and the same command with `sweep` waits for them"
            print(line, file=sys.stderr)
        raise


@dataclass
class _Batch:
    """The jobs of one launch with submitit, from submission to result."""

    launcher: Any
    executor: submitit.AutoExecutor
    overrides: JobOverrides
    first: int  # number of the first job
    running: dict[int, Job] = field(default_factory=dict)

    def run(self, has_ended: HasEnded, at_a_time: int) -> list[JobReturn]:
        """Submit the jobs that are not done, wait for all, and return them in order."""
        results: dict[int, JobReturn] = {}
        waiting = []
        for index, overrides in enumerate(self.overrides):
            config, job_dir = _compose(self.launcher, overrides)
            if job_dir.status in ("finished", "pruned"):  # needs no node
                with open_dict(config):
                    config.hydra.job.id = config.hydra.job.num = self.first + index
                results[index] = run_job(
                    self.launcher.task_function,
                    config,
                    "hydra.sweep.dir",
                    "hydra.sweep.subdir",
                    self.launcher.hydra_context,
                )
            else:
                waiting.append(index)
        while waiting or self.running:
            free = at_a_time - len(self.running)
            now, waiting = waiting[:free], waiting[free:]
            if now:
                self._submit(now)
            for index, job in list(self.running.items()):
                if result := self._result(index, job, has_ended):
                    results[index] = result
                    del self.running[index]
            time.sleep(0.3)
        return [results[index] for index in range(len(self.overrides))]

    def _submit(self, indices: list[int]) -> None:
        calls = []  # of the __call__ of Hydra's launcher, which runs in the job
        for index in indices:
            number, state = self.first + index, Singleton.get_state()
            overrides = list(self.overrides[index])
            calls.append((overrides, "hydra.sweep.dir", number, f"job_id_for_{number}", state))
        jobs = self.executor.map_array(self.launcher, *zip(*calls, strict=True))
        for index, job in zip(indices, jobs, strict=True):
            given = shell_words(filter_overrides(self.overrides[index]))
            print(f"{self.executor.cluster} job {job.job_id}: {given}", flush=True)
            self.running[index] = job

    def _result(self, index: int, job: Job, has_ended: HasEnded) -> JobReturn | None:
        """Return the result of the job, NaN where it died; None while it runs."""
        first = job.task(0)  # of several processes, the one that returns the result
        why = has_ended(job)  # asked first: a job writes its result before it ends
        if first.paths.result_pickle.exists():
            try:
                return first.results()[0]
            except submitit.core.utils.FailedJobError as error:
                why = _last_line(str(error))
        if why is None:
            return None
        return _dead_job(self.launcher, self.overrides[index], why, first.paths.stderr)


class _Queue:
    """The states of this user's jobs in Slurm, polled seldom.

    By squeue: sacct, which submitit uses, has no data where Slurm keeps no accounts.
    """

    def __init__(self) -> None:
        self._started = self._asked = time.monotonic()
        self._states: dict[str, str] = {}
        self._ended_at: dict[str, float] = {}

    def has_ended(self, job: Job) -> str | None:
        """Return how the job ended; None where it has not, or its result may still arrive."""
        self._ask()
        state = self._states.get(job.job_id, "gone from the queue") if self._states else "UNKNOWN"
        if state not in _FINAL_STATES:
            self._ended_at.pop(job.job_id, None)
            return None
        now = time.monotonic()
        if now - self._ended_at.setdefault(job.job_id, now) < _RESULT_LAG:
            return None
        return f"Slurm job {job.job_id} is {state}"

    def _ask(self) -> None:
        now = time.monotonic()
        if now - self._asked < min(30.0, max(2.0, (now - self._started) / 20)):
            return
        self._asked = now
        command = ["squeue", f"--user={os.getuid()}", "--noheader", "--array", "--states=all"]
        asked = subprocess.run([*command, "--format=%i %T"], capture_output=True, text=True)
        if asked.returncode == 0:
            lines = (line.split() for line in asked.stdout.splitlines())
            self._states = {"": "", **{job: state for job, state, *_ in lines}}


def _resolve_n_jobs(n_jobs: Any) -> int:
    """Return the number of jobs that `n_jobs` means, or raise a ConfigError: -1 is one per core."""
    if n_jobs == -1:
        return num_cores()
    if type(n_jobs) is int and n_jobs >= 1:
        return n_jobs
    raise ConfigError(
        f"hydra.launcher.n_jobs={n_jobs}: impossible value. Choose from: -1, 1 and up"
    )


def _compose(launcher: Any, overrides: Sequence[str]) -> tuple[DictConfig, JobDir]:
    """Return the config of a job and its folder, which may not exist yet."""
    loader = launcher.hydra_context.config_loader
    config = loader.load_sweep_config(launcher.config, list(overrides))
    sweep, job = (OmegaConf.select(config, f"hydra.sweep.{key}") for key in ("dir", "subdir"))
    return config, JobDir(Path(sweep).absolute() / str(job))


def _was_running(launcher: Any, overrides: Sequence[str]) -> bool:
    _, job = _compose(launcher, overrides)
    return bool(job.read("job")) and job.status in ("unfinished", "running")


def _dead_job(
    launcher: Any, overrides: Sequence[str], why: str, log: Path | None = None
) -> JobReturn:
    """Report a job whose process died, and return NaN for it: the sweep continues."""
    config, job = _compose(launcher, overrides)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(job.path)
    if job.status == "unfinished":
        job.record_unstarted(filter_overrides(overrides))
    line = f"error: {job.name}: its process died: {why}"
    line += f"\n       overrides: {shell_words(filter_overrides(overrides))}"
    line += f"\n       log: {log}" if log else ""
    print(line, file=sys.stderr, flush=True)
    result = JobReturn(overrides=list(overrides), hydra_cfg=config, status=JobStatus.COMPLETED)
    result.return_value = math.nan
    return result


def _python(*, threads: int, visible_gpus: bool = False) -> str:
    """Return the shell command of Python in a job.

    A job imports this package wherever it starts: from the clone if this process does, else as
    installed. Its number of threads is set before it imports torch. submitit hides all GPUs from
    local jobs, unless `visible_gpus`.
    """
    root = project_root()
    paths = [str(root / "src") if root else None, os.environ.get("PYTHONPATH")]
    variables = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    unset = []
    if visible_gpus and "CUDA_VISIBLE_DEVICES" in os.environ:
        variables["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"]
    elif visible_gpus:
        unset = ["-u", "CUDA_VISIBLE_DEVICES"]
    assigned = [f"{name}={value}" for name, value in variables.items()]
    return shlex.join(["env", *unset, *assigned, sys.executable])


def _new_folder(pattern: str) -> Path:
    """Return a new folder for the jobs of this launch.

    A job's result is a pickle, found by the job's number. Numbers repeat, those of processes after
    a restart for one, and the folder of a sweep may be untrusted: a result that was there before is
    never read.
    """
    path = Path(pattern)
    return path.parent / secrets.token_hex(4) / path.name


def _last_line(trace: str) -> str:
    ignored = (" ", "---", "You can check", "or at")
    lines = [line for line in trace.splitlines() if line.strip() and not line.startswith(ignored)]
    return lines[-1] if lines else "it failed"
