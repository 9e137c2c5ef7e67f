"""Train a run in this process, and again after each rollback."""

import sys
from dataclasses import replace

from rnn_lab.data.options import SKIPGRAM
from rnn_lab.fast_import import fast_imports
from rnn_lab.plugins import require_extra
from rnn_lab.process import flush_denormals, is_rank_zero, limit_threads, tune_malloc
from rnn_lab.training.resume_hint import resume_command, write_failure
from rnn_lab.training.rollback import RollbackRequestedError
from rnn_lab.training.signals import GracefulShutdown
from rnn_lab.training.spec import RunSpec


def train_in_process(spec: RunSpec, shutdown: GracefulShutdown) -> None:
    """Train the run of `spec` in this process, and again after each rollback; see `train`."""
    tune_malloc()
    if spec.config.train and spec.config.data.vectors == SKIPGRAM:
        require_extra("vectors", f"data.vectors={SKIPGRAM}")
    if spec.config.logger.name == "tensorboard":
        require_extra("tensorboard", "logger=tensorboard")
    flush_denormals()
    limit_threads()
    with fast_imports():
        from rnn_lab.training.callbacks.nonfinite import NonFiniteError
        from rnn_lab.training.train import train

    try:
        while True:
            try:
                return train(spec, shutdown)
            except RollbackRequestedError as error:
                spec = replace(spec, rollbacks=error.rollbacks)
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
