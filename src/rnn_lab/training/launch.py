"""Start a run: in this process or in several, until it ends, is interrupted or rolled back."""

import gc
import signal
import sys

from rnn_lab.data.options import SKIPGRAM
from rnn_lab.data.torchtext_backend import TorchtextVocabulary, require_torchtext
from rnn_lab.fast_import import fast_imports
from rnn_lab.plugins import require_extra
from rnn_lab.process import flush_denormals, is_rank_zero, is_worker, tune_malloc
from rnn_lab.training.resume_hint import resume_command, resume_hint
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.spec import CallbackFactory, RunSpec


def launch(spec: RunSpec, make_callbacks: CallbackFactory) -> None:
    """Train and test the run of `spec`, in as many processes as it has devices.

    SIGTERM ends it with SystemExit, Ctrl-C with KeyboardInterrupt, both after a line with the
    command that resumes the run.

    Raises:
        UserError: whatever the user can correct; before data is read where possible.
    """
    with GracefulShutdown() as shutdown:
        try:
            if spec.config.trainer.strategy == "ddp" and not is_worker():
                from rnn_lab.training.distributed import launch_ddp

                launch_ddp(spec, make_callbacks, shutdown)
            else:
                train_in_process(spec, make_callbacks, shutdown)
        except Interrupted as interrupted:
            gc.freeze()  # or Python collects garbage at its exit, for more than a second
            if is_rank_zero():
                print(resume_hint(spec), file=sys.stderr, flush=True)
            if interrupted.signum == signal.SIGINT:
                raise KeyboardInterrupt("reported") from None
            sys.exit(128 + interrupted.signum)


def train_in_process(
    spec: RunSpec, make_callbacks: CallbackFactory, shutdown: GracefulShutdown
) -> None:
    """Train the run of `spec` in this process, and again after each rollback; see `train`."""
    tune_malloc()
    if spec.config.data.tokenizer == TorchtextVocabulary.tokenizer:
        require_torchtext()
    if spec.config.train and spec.config.data.vectors == SKIPGRAM:
        require_extra("vectors", f"data.vectors={SKIPGRAM}")
    if spec.config.logger.name == "tensorboard":
        require_extra("tensorboard", "logger=tensorboard")
    flush_denormals()
    with fast_imports():
        from rnn_lab.training.callbacks.nonfinite import NonFiniteError, RollbackRequestedError
        from rnn_lab.training.resume import write_failure
        from rnn_lab.training.train import train

    rollbacks = None
    try:
        while True:
            try:
                return train(spec, shutdown, make_callbacks, rollbacks)
            except RollbackRequestedError as error:
                rollbacks = error.rollbacks
                if is_rank_zero():
                    print(error, file=sys.stderr, flush=True)
    except NonFiniteError as error:
        if spec.config.trainer.on_nonfinite == "rollback" or spec.sweep is not None:
            raise
        command = f"{resume_command(spec)} trainer.on_nonfinite=rollback"
        raise NonFiniteError(f"{error}: {command}") from error
    except Exception as error:
        shutdown.raise_received()  # nobody looks at it any more
        if (reported := write_failure(spec, error)) is None:
            raise
        raise reported from error
