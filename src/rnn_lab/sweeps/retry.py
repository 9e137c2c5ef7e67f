"""Train a run, and train it again after an error; out of memory, with half the batch size."""

import gc
import logging
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.data.recipe import SIZES
from rnn_lab.errors import ConfigError, UserError
from rnn_lab.io.secret_scan import raw_overrides
from rnn_lab.process import is_rank_zero, is_worker
from rnn_lab.runs.run_folder import LAST
from rnn_lab.sweeps.job import JobDir, error_line
from rnn_lab.sweeps.naming import sweep_label
from rnn_lab.training.config import parse_run_config
from rnn_lab.training.launch import launch
from rnn_lab.training.out_of_memory import (
    OutOfMemoryAfterTrainingError,
    OutOfMemoryError,
    is_out_of_memory,
)
from rnn_lab.training.reproduce import RunRecord, read_run_record
from rnn_lab.training.spec import RunSpec
from rnn_lab.validation import AUTO

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

log = logging.getLogger(__name__)


def train_with_retries(options: Mapping[str, Any]) -> None:
    """Train the run of conf/train.yaml, composed into `options`, in the folder Hydra made for it.

    Raises:
        Exception: see `retry_run`.
    """
    retry_run(_run_spec(options))


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
        return launch(spec, _search_callbacks)
    config, job = spec.config, JobDir(spec.output_dir)
    if config.sweep is not None and spec.sweep is None:
        raise ConfigError(f"sweep={config.sweep}: names the folder of a sweep; add -m")
    if config.report_dir is not None and spec.sweep is None:
        raise ConfigError(f"report_dir={config.report_dir}: is of a sweep; add -m")
    if config.reproduce is not None and spec.sweep is not None:
        raise ConfigError(f"reproduce={config.reproduce}: is one run; leave out -m")
    record = None if config.reproduce is None else read_run_record(config.reproduce)
    if halvings := job.read("job").get("batch_halvings", 0):
        spec = _with_known_batch(spec)
        for _ in range(halvings):
            spec = spec.with_half_batch()
    retries, found = config.max_retries, _last_checkpoint_time(spec)
    while True:
        job.update(attempts=spec.attempt, batch_halvings=spec.batch_halvings)
        try:
            launch(spec, _search_callbacks)
            break
        except (UserError, OmegaConfBaseException):
            raise
        except Exception as error:
            if is_worker() or job.status in ("finished", "pruned"):
                raise
            if isinstance(error, OutOfMemoryAfterTrainingError):
                spec, message = _to_test_again(spec, error)
            elif is_out_of_memory(error):
                spec, message = _to_start_over(spec, error)
                job.discard_checkpoints()
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
    """Return the run whose training ran out of memory with a smaller batch, and a message."""
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
    return smaller, f"out of memory with {batch}; starts over with {smaller.describe_batch()}"


def _run_spec(options: Mapping[str, Any]) -> RunSpec:
    hydra = HydraConfig.get()
    overrides = raw_overrides(hydra)
    is_multirun = hydra.mode == RunMode.MULTIRUN
    return RunSpec(
        config=parse_run_config(options),
        output_dir=Path(hydra.runtime.output_dir),
        raw_overrides=tuple(overrides),
        hydra_arguments=tuple(_hydra_arguments(hydra)),
        sweep=sweep_label(Path(hydra.sweep.dir), overrides, options) if is_multirun else None,
        shares_terminal=hydra.runtime.choices.get("hydra/launcher") == "joblib",
    )


def _hydra_arguments(hydra: Any) -> list[str]:
    """Return the arguments for Hydra itself that the same run in the same folder needs."""
    dirs = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    given: Any = OmegaConf.to_container(hydra.overrides.hydra, resolve=False)
    dropped = ("hydra.run.dir=", "hydra.mode=")
    return [
        *(f"--config-dir={folder}" for folder in dirs),
        *(str(override) for override in given if not override.startswith(dropped)),
    ]


def _search_callbacks(spec: RunSpec) -> "list[Callback]":
    """Return the callbacks of a run that is a trial of a search; none for other runs."""
    if spec.config.trial.number is None:
        return []
    from rnn_lab.sweeps.search.pruning import Pruning

    return [Pruning(spec.config.trial, spec.output_dir)]


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
