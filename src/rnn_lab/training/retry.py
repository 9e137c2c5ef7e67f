"""Train a run, and train it again after an error; out of memory, with half the batch size."""

import gc
import logging
import sys
import traceback
from dataclasses import replace

from omegaconf.errors import OmegaConfBaseException

from rnn_lab.data.recipe import SIZES
from rnn_lab.errors import ConfigError, UserError, error_line
from rnn_lab.process import is_rank_zero, is_worker
from rnn_lab.runs.run_folder import LAST
from rnn_lab.training.job_dir import JobDir
from rnn_lab.training.launch import launch
from rnn_lab.training.out_of_memory import (
    OutOfMemoryAfterTrainingError,
    OutOfMemoryError,
    is_out_of_memory,
)
from rnn_lab.training.reproduce import RunRecord, read_run_record
from rnn_lab.training.spec import RunSpec
from rnn_lab.validation import AUTO

log = logging.getLogger(__name__)


def retry_run(spec: RunSpec) -> None:
    """Train the run of `spec`, and train it again after an error.

    A run that fails is trained again `max_retries` times and resumes from its last checkpoint; with
    `resume=never` too, unless that is one which the first attempt found and did not remove. On
    out-of-memory it starts over with half the batch size and doubled gradient accumulation, down to
    one example. A complete training is not repeated: its test is, with half the batch size; further
    epochs of it are an error. Errors that the user has to correct are not retried, and neither is
    one of several processes that srun or torchrun started: the others would wait for it.

    Raises:
        UserError: as training.launch; OutOfMemoryError where no batch is small enough, or would
            have to be in further epochs; for a reproduced run, metrics that differ from the first
            run's.
        Exception: that of the last attempt.
    """
    if not is_rank_zero():
        return launch(spec)
    config, job = spec.config, JobDir(spec.output_dir)
    if config.sweep is not None and spec.sweep is None:
        raise ConfigError(f"sweep={config.sweep}: names the folder of a sweep; add -m")
    if config.report_dir is not None and spec.sweep is None:
        raise ConfigError(f"report_dir={config.report_dir}: is of a sweep; add -m")
    if config.reproduce is not None and spec.sweep is not None:
        raise ConfigError(f"reproduce={config.reproduce}: is one run; leave out -m")
    record = None if config.reproduce is None else read_run_record(config.reproduce)
    halvings = job.read("job").get("batch_halvings", 0) if config.resume == "auto" else 0
    if halvings:
        spec = _with_known_batch(spec)
        for _ in range(halvings):
            spec = spec.with_half_batch()
        batch = spec.describe_batch()
        print(f"{job.name}: a larger batch ran out of memory before: {batch}", file=sys.stderr)
    retries, found = config.max_retries, _last_checkpoint_time(spec)
    while True:
        job.update(attempts=spec.attempt, batch_halvings=spec.batch_halvings)
        try:
            launch(spec)
            break
        except (UserError, OmegaConfBaseException):
            raise
        except Exception as error:
            is_pruned = spec.sweep is not None and job.status == "pruned"
            if is_worker() or is_pruned or job.status == "finished":
                raise
            if isinstance(error, OutOfMemoryAfterTrainingError):
                spec, message = _to_test_again(spec, error)
            elif is_out_of_memory(error):
                spec, message = _to_start_over(spec, error)
            elif retries > 0:
                left = f"{retries} of {config.max_retries} retries left"
                message = f"{error_line(error)}; retrying, {left}"
                retries -= 1
                written = _last_checkpoint_time(spec) != found
                spec = replace(spec, continues_attempt=spec.continues_attempt or written)
            else:
                raise
            log.info("Attempt %d:\n%s", spec.attempt, traceback.format_exc())
        spec = replace(spec, attempt=spec.attempt + 1)
        print(f"{job.name}: {message}", file=sys.stderr, flush=True)
        _free_memory()
    if record is not None:
        _compare(record, job)


def _last_checkpoint_time(spec: RunSpec) -> int | None:
    """Return when last.ckpt was written, in nanoseconds; None: there is none."""
    path = spec.checkpoint_dir / LAST
    return path.stat().st_mtime_ns if path.exists() else None


def _to_test_again(spec: RunSpec, error: Exception) -> tuple[RunSpec, str]:
    """Return the run whose test ran out of memory with a smaller batch, and a message."""
    size, smaller = spec.config.data.eval_batch_size, spec.with_half_eval_batch()
    if smaller is spec:
        raise OutOfMemoryError(
            f"out of memory after training, even with data.eval_batch_size={size}: {error}; the "
            "same command resumes with the test"
        ) from error
    half = smaller.config.data.eval_batch_size
    message = f"out of memory after training with data.eval_batch_size={size}; tests again with "
    return smaller, f"{message}data.eval_batch_size={half}"


def _to_start_over(spec: RunSpec, error: Exception) -> tuple[RunSpec, str]:
    """Return the run whose training ran out of memory with a smaller batch, and a message.

    The checkpoints of the larger batch are removed.
    """
    from rnn_lab.training.resume import remove_checkpoints
    from rnn_lab.training.saved_run import SavedRun

    spec = _with_known_batch(spec)
    batch = spec.describe_batch()
    last = spec.checkpoint_dir / LAST
    if spec.resume == "auto" and SavedRun.of(last).has_complete_training_of(spec):
        raise OutOfMemoryError(
            f"out of memory with {batch}, after a complete training, which is kept: "
            f"{error_line(error)}. ckpt_path={last} continues it in "
            "another folder, where the batch may be smaller"
        ) from error
    smaller = spec.with_half_batch()
    if smaller is spec:
        raise OutOfMemoryError(f"out of memory, even with {batch}: {error_line(error)}") from error
    remove_checkpoints(spec)
    return smaller, f"out of memory with {batch}; starts over with {smaller.describe_batch()}"


def _compare(record: RunRecord, job: JobDir) -> None:
    """Print the metrics of a run beside those of the run that it reproduces."""
    from rnn_lab.reports.run_summary import compare_runs, print_comparison

    comparison = compare_runs(record.result, job.read("result"))
    print_comparison(comparison)
    if comparison.differing and not comparison.reasons:
        raise UserError(
            f"reproduce={record.path}: {comparison.format_differing()}, though the code, the "
            "versions and the machine are the same: one of the two result.json is not what was "
            "computed"
        )


def _with_known_batch(spec: RunSpec) -> RunSpec:
    """Return the run with the batch size and length that `auto` means for its texts."""
    if AUTO not in [getattr(spec.config.data, name) for name in SIZES]:
        return spec  # no texts are read where memory has just run out
    from rnn_lab.training.hardware import resolve_hardware
    from rnn_lab.training.run_data import build_data
    from rnn_lab.training.saved_run import SavedRun

    data = build_data(spec, resolve_hardware(spec.config.trainer), SavedRun.read(spec))
    data.setup()
    update = {name: getattr(data.config, name) for name in SIZES}
    known = spec.config.data.model_copy(update=update)
    return replace(spec, config=spec.config.model_copy(update={"data": known}))


def _free_memory() -> None:
    """Free what a failed attempt held: its tensors are in reference cycles."""
    gc.collect()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()  # of a CPU, there is nothing to empty
