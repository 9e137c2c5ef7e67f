"""A job tried again: after an error as often as asked, out of memory at half the batch."""

import gc
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.errors import ConfigError, UserError
from rnn_lab.reports.run_diff import compare_runs, print_comparison
from rnn_lab.sweeps.fingerprint import fingerprint
from rnn_lab.sweeps.job import error_line, is_first_process
from rnn_lab.sweeps.job_dir import JobDir
from rnn_lab.training.config import RunConfig
from rnn_lab.training.distributed import is_worker
from rnn_lab.training.reproduce import RunRecord, read_run_record
from rnn_lab.training.train import train
from rnn_lab.validation import validate

log = logging.getLogger(__name__)

# As it is worded by PyTorch's allocators, the system, cuBLAS and the C++ library.
_NO_MEMORY = (
    *("can't allocate memory", "out of memory", "Cannot allocate memory"),
    *("ALLOC_FAILED", "bad_alloc"),
)


class OutOfMemoryError(UserError):
    """Not even one review at a time fits."""


def train_with_retries(options: dict[str, Any]) -> None:
    """Train the run of conf/train.yaml, composed into `options`, in the folder Hydra made for it.

    An attempt that failed is made again `options["max_retries"]` times and goes on from its last
    checkpoint. One that runs out of memory starts anew at half the batch, with twice as many
    batches a step, down to one review. What the user must mend is not tried again, and neither
    is one of several processes that srun or torchrun started: the others would wait for it.

    Raises:
        UserError: as `train`; OutOfMemoryError where no batch is small enough; for a run again,
            figures that are not those of the first.
        Exception: that of the last attempt.
    """
    config = validate(RunConfig, options)
    job = JobDir(Path(HydraConfig.get().runtime.output_dir))
    if not is_first_process():
        return train(config, options)
    if config.sweep is not None and HydraConfig.get().mode == RunMode.RUN:
        raise ConfigError(f"sweep={config.sweep}: names a folder of many runs; add -m")
    if config.reproduce is not None and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigError(f"reproduce={config.reproduce}: is one run; leave out -m")
    then = None if config.reproduce is None else read_run_record(config.reproduce)
    # A smaller batch makes it no other job.
    marks: dict[str, Any] = {
        "config_fingerprint": fingerprint(config),
        "monitored_metric": config.trainer.monitor,
    }
    batch_halvings, retries = job.read("job").get("batch_halvings", 0), config.max_retries
    for _ in range(batch_halvings):
        options = halve_batch(options)
    attempt = 0
    while True:
        attempt += 1
        job.note(attempts=attempt, batch_halvings=batch_halvings)
        marks |= {"batch_halvings": batch_halvings}
        try:
            train(validate(RunConfig, options), options, marks=marks)
            break
        except (UserError, OmegaConfBaseException):
            raise
        except Exception as error:
            if is_worker() or job.status in ("finished", "pruned"):
                raise
            if is_out_of_memory(error):
                smaller = halve_batch(options)
                if smaller == options:
                    raise OutOfMemoryError(
                        f"out of memory, even at {_batch(options)}: {error_line(error)}"
                    ) from error
                said = f"out of memory at {_batch(options)}; again at {_batch(smaller)}"
                options, batch_halvings = smaller, batch_halvings + 1
                job.discard_checkpoints()
            elif retries > 0:
                said = f"{error_line(error)}; trying again, {retries} of {config.max_retries} left"
                retries -= 1
            else:
                raise
            log.info("Attempt %d:\n%s", attempt, traceback.format_exc())
        print(f"{job.name}: {said}", file=sys.stderr, flush=True)
        _free_memory()
    if then is not None:
        _compare(then, job)


def _compare(then: RunRecord, job: JobDir) -> None:
    """Print the figures of a run beside those of the run that it repeats.

    Raises:
        UserError: some differ, and nothing that is known of the two says why.
    """
    comparison = compare_runs(then.result, job.read("result"))
    print_comparison(comparison)
    if comparison.differing and not comparison.reasons:
        raise UserError(
            f"reproduce={then.path}: {comparison.format_differing()}, though the code, the "
            "versions and the machine are the same: one of the two result.json was changed"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the processor or of an accelerator, in `error` or its causes."""
    cause: BaseException | None = error
    while cause is not None:
        told = isinstance(cause, RuntimeError | OSError) and any(
            words in str(cause) for words in _NO_MEMORY
        )
        if told or isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        cause = cause.__cause__
    return False


def halve_batch(options: dict[str, Any]) -> dict[str, Any]:
    """Return `options` with half the batch and twice as many batches a step.

    Batches of validation are halved too. Where all are as small as can be, `options` come back.
    """
    data, trainer = options["data"], options["trainer"]
    smaller = {"eval_batch_size": max(1, data["eval_batch_size"] // 2)}
    if data.get("max_tokens_per_batch") is not None:  # a batch holds the longest review
        smaller["max_tokens_per_batch"] = max(data["max_length"], data["max_tokens_per_batch"] // 2)
    else:
        smaller["batch_size"] = max(1, data["batch_size"] // 2)
    train_sizes = [name for name in smaller if name != "eval_batch_size"]
    shrinks = any(smaller[name] < data[name] for name in train_sizes)
    batches = trainer["accumulate_grad_batches"] * (2 if shrinks else 1)
    return options | {
        "data": data | smaller,
        "trainer": trainer | {"accumulate_grad_batches": batches},
    }


def _batch(options: dict[str, Any]) -> str:
    data = options["data"]
    size = "batch_size" if data.get("max_tokens_per_batch") is None else "max_tokens_per_batch"
    batches = options["trainer"]["accumulate_grad_batches"]
    return f"data.{size}={data[size]} trainer.accumulate_grad_batches={batches}"


def _free_memory() -> None:
    """Let go of what a failed attempt held: its tensors stand in cycles."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
