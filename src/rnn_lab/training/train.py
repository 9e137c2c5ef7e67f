"""What a run needs before torch is imported, and the run."""

import signal
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from rnn_lab.data.torchtext_backend import TorchtextVocabulary, require_torchtext
from rnn_lab.fast_import import importing
from rnn_lab.sweeps.job import is_first_process
from rnn_lab.training.config import RunConfig
from rnn_lab.training.distributed import is_replica, train_in_replicas
from rnn_lab.training.process import end_soon, flush_denormals, keep_freed_memory
from rnn_lab.training.resume_hint import how_to_go_on, unwritten
from rnn_lab.training.signals import Interrupted, StopSignals


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
    with StopSignals() as signals:
        try:
            if config.trainer.strategy == "ddp" and not is_replica():
                train_in_replicas(config, options, marks or {}, signals)
            else:
                train_here(config, options, marks or {}, signals)
        except Interrupted as interrupted:
            end_soon()
            if is_first_process():
                line = how_to_go_on(Path(HydraConfig.get().runtime.output_dir))
                print(line, file=sys.stderr, flush=True)
            if interrupted.signum == signal.SIGINT:
                raise KeyboardInterrupt("told") from None
            sys.exit(128 + interrupted.signum)


def train_here(
    config: RunConfig, options: dict[str, Any], marks: dict[str, Any], signals: StopSignals
) -> None:
    """Do the run of `config` in this process, and again where it is turned back.

    Raises:
        UserError: as `train`.
        Interrupted: by one of `signals`.
    """
    keep_freed_memory()
    if config.data.tokenizer == TorchtextVocabulary.tokenizer:
        require_torchtext()
    flush_denormals()
    with importing():
        from rnn_lab.training.callbacks.nonfinite import NonFiniteError
        from rnn_lab.training.rollbacks import GoBackError, say_goes_back
        from rnn_lab.training.run import in_sweep, run

    folder = Path(HydraConfig.get().runtime.output_dir)
    rollbacks = None
    try:
        while True:
            try:
                run(config, options, marks=marks, signals=signals, rollbacks=rollbacks)
                return
            except GoBackError as error:
                rollbacks = error.rollbacks
            say_goes_back(rollbacks)
    except NonFiniteError as error:
        if config.trainer.on_nonfinite == "rollback" or in_sweep():
            raise
        command = how_to_go_on(folder).partition("with: ")[2]
        raise NonFiniteError(f"{error}: {command} trainer.on_nonfinite=rollback") from error
    except Exception as error:
        signals.raise_received()  # nobody looks any more
        if (told := unwritten(folder, error)) is None:
            raise
        raise told from error
