"""Out-of-memory errors, and what they must not cost: a complete training."""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from rnn_lab.errors import UserError, error_line

log = logging.getLogger(__name__)

# As PyTorch's allocators, the system, cuBLAS and the C++ library word it.
_OUT_OF_MEMORY = (
    *("can't allocate memory", "out of memory", "Cannot allocate memory"),
    *("ALLOC_FAILED", "bad_alloc"),
)


class OutOfMemoryError(UserError):
    """The run does not fit into memory, and there is no smaller batch to try."""


class OutOfMemoryAfterTrainingError(RuntimeError):
    """Memory ran out in the test or in what follows it; last.ckpt has the complete training."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, of the CPU or an accelerator, in `error` or its causes."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, RuntimeError | OSError) and any(w in str(error) for w in _OUT_OF_MEMORY):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


@contextmanager
def after_training() -> Iterator[None]:
    """Raise OutOfMemoryAfterTrainingError where memory runs out inside."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryAfterTrainingError(error_line(error)) from error


@contextmanager
def skip_out_of_memory(part: str) -> Iterator[None]:
    """Report in a line that memory ran out inside, and continue without that `part` of a run."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        log.info("Without %s:\n%s", part, traceback.format_exc())
        print(f"out of memory: the run has no {part}", file=sys.stderr, flush=True)
