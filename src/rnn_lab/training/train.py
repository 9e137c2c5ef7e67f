"""What a run needs before torch is imported, and the run."""

import signal
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from rnn_lab.data.torchtext_backend import TorchtextVocabulary, require_torchtext
from rnn_lab.fast_import import fast_imports
from rnn_lab.plugins import require_extra
from rnn_lab.sweeps.job import is_first_process
from rnn_lab.training.config import RunConfig
from rnn_lab.training.distributed import is_worker, launch_ddp
from rnn_lab.training.process import flush_denormals, skip_final_gc, tune_malloc
from rnn_lab.training.resume_hint import resume_hint, write_failure
from rnn_lab.training.signals import GracefulShutdown, Interrupted


def train(
    config: RunConfig, options: dict[str, Any], *, marks: dict[str, Any] | None = None
) -> None:
    """Train, test and describe the run of `config`, which was composed into `options`.

    Data parallel, it is the processes started for it that do so. `marks` are written into its
    result.json too. SIGTERM ends it with SystemExit, Ctrl-C with KeyboardInterrupt, both after the
    line that says how to go on.

    Raises:
        UserError: whatever the user can mend; for an impossible option, before data is read.
    """
    with GracefulShutdown() as signals:
        try:
            if config.trainer.strategy == "ddp" and not is_worker():
                launch_ddp(config, options, marks or {}, signals)
            else:
                train_in_process(config, options, marks or {}, signals)
        except Interrupted as interrupted:
            skip_final_gc()
            if is_first_process():
                line = resume_hint(Path(HydraConfig.get().runtime.output_dir))
                print(line, file=sys.stderr, flush=True)
            if interrupted.signum == signal.SIGINT:
                raise KeyboardInterrupt("told") from None
            sys.exit(128 + interrupted.signum)


def train_in_process(
    config: RunConfig, options: dict[str, Any], marks: dict[str, Any], signals: GracefulShutdown
) -> None:
    """Do the run of `config` in this process, and again where it is turned back.

    Raises:
        UserError: as `train`.
        Interrupted: by one of `signals`.
    """
    tune_malloc()
    if config.data.tokenizer == TorchtextVocabulary.tokenizer:
        require_torchtext()
    if config.logger.name == "tensorboard":
        require_extra("tensorboard", "logger=tensorboard")
    flush_denormals()
    with fast_imports():
        from rnn_lab.training.callbacks.nonfinite import NonFiniteError
        from rnn_lab.training.rollbacks import RollbackRequestedError, print_rollback
        from rnn_lab.training.run import is_multirun, run

    folder = Path(HydraConfig.get().runtime.output_dir)
    rollbacks = None
    try:
        while True:
            try:
                run(config, options, marks=marks, signals=signals, rollbacks=rollbacks)
                return
            except RollbackRequestedError as error:
                rollbacks = error.rollbacks
            print_rollback(rollbacks)
    except NonFiniteError as error:
        if config.trainer.on_nonfinite == "rollback" or is_multirun():
            raise
        command = resume_hint(folder).partition("with: ")[2]
        raise NonFiniteError(f"{error}: {command} trainer.on_nonfinite=rollback") from error
    except Exception as error:
        signals.raise_received()  # nobody looks any more
        if (told := write_failure(folder, error)) is None:
            raise
        raise told from error
