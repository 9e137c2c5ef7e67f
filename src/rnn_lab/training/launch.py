"""Start a run: in this process or in several, until it ends, is interrupted or rolled back."""

import gc
import signal
import sys

from rnn_lab.process import is_rank_zero, is_worker
from rnn_lab.training.in_process import train_in_process
from rnn_lab.training.resume_hint import resume_hint
from rnn_lab.training.signals import GracefulShutdown, Interrupted
from rnn_lab.training.spec import RunSpec


def launch(spec: RunSpec) -> None:
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

                launch_ddp(spec, shutdown)
            else:
                train_in_process(spec, shutdown)
        except Interrupted as interrupted:
            gc.freeze()  # or Python collects garbage at its exit, for more than a second
            if is_rank_zero():
                print(resume_hint(spec), file=sys.stderr, flush=True)
            if interrupted.signum == signal.SIGINT:
                raise KeyboardInterrupt("reported") from None
            sys.exit(128 + interrupted.signum)
