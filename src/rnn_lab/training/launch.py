"""Start a run: in this process or in several, until it ends, is interrupted or rolled back."""

import signal
import sys
from typing import Any

from rnn_lab.data.torchtext_backend import TorchtextVocabulary, require_torchtext
from rnn_lab.fast_import import fast_imports
from rnn_lab.plugins import require_extra
from rnn_lab.ranks import is_rank_zero, is_worker
from rnn_lab.training.process import flush_denormals, skip_final_gc, tune_malloc
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.spec import CallbackFactory, RunSpec, no_callbacks


def launch(spec: RunSpec, make_callbacks: CallbackFactory = no_callbacks) -> None:
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

                launch_ddp(train_in_process, spec, make_callbacks, shutdown)
            else:
                train_in_process(spec, make_callbacks, shutdown)
        except Interrupted as interrupted:
            skip_final_gc()
            if is_rank_zero():
                from rnn_lab.training.resume import resume_hint

                print(resume_hint(spec), file=sys.stderr, flush=True)
            if interrupted.signum == signal.SIGINT:
                raise KeyboardInterrupt("reported") from None
            sys.exit(128 + interrupted.signum)


def train_in_process(
    spec: RunSpec, make_callbacks: CallbackFactory, shutdown: GracefulShutdown
) -> None:
    """Train the run of `spec` in this process, and again after each rollback.

    Raises:
        UserError: as `launch`.
        Interrupted: `shutdown` received a signal.
    """
    tune_malloc()
    if spec.config.data.tokenizer == TorchtextVocabulary.tokenizer:
        require_torchtext()
    if spec.config.logger.name == "tensorboard":
        require_extra("tensorboard", "logger=tensorboard")
    flush_denormals()
    with fast_imports():
        from rnn_lab.training.callbacks.nonfinite import NonFiniteError
        from rnn_lab.training.resume import resume_command, write_failure
        from rnn_lab.training.rollbacks import RollbackRequestedError, print_rollback
        from rnn_lab.training.train import train

    rollbacks: Any = None
    try:
        while True:
            try:
                train(spec, shutdown, make_callbacks=make_callbacks, rollbacks=rollbacks)
                return
            except RollbackRequestedError as error:
                rollbacks = error.rollbacks
            print_rollback(rollbacks)
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
