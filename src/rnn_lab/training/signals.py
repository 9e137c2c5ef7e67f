"""SIGTERM, Ctrl-C and preemption signals: a run stops cleanly, its training with a checkpoint."""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Self

from rnn_lab.errors import UserError, whole_message

# By which a cluster preempts a job, or warns it of its time limit (`sbatch --signal=USR1@60`);
# submitit then puts the job back into the queue.
PREEMPTION_SIGNALS = [
    getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]

_SAME_SIGNAL = 1.0  # seconds; some signals are sent to a whole group and arrive twice
_REQUEUE = 10.0  # seconds for another process to put the job back into the queue


class Interrupted(BaseException):
    """The signal `signum` asked this process to stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class NotRequeuedError(UserError):
    """The cluster's queue does not take back a job that it preempted or that ran out of time."""

    def __init__(self, signum: int, error: Exception) -> None:
        super().__init__(
            f"{signal.Signals(signum).name}: {whole_message(error)} The same command resumes the "
            "run; for one that needs more time, give a larger hydra.launcher.timeout_min or "
            "hydra.launcher.max_num_timeout"
        )


class GracefulShutdown:
    """While entered, SIGTERM, SIGINT and preemption signals stop the run cleanly.

    A signal raises Interrupted at once, unless `deferred`: then the training checks `received`
    between steps, saves a checkpoint and calls `raise_received`. A second signal, a second later,
    raises in any case. A preemption signal with a handler of its own, such as submitit's, is passed
    to that handler in place of Interrupted.
    """

    def __init__(self, *, forwarded: bool = False) -> None:
        """Handle signals; where the parent process forwards them, not SIGINT, and silently."""
        self.received: int | None = None
        self.deferred = False
        self._forwarded = forwarded
        self._received_at = 0.0
        self._is_preempting = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, *(() if self._forwarded else (signal.SIGINT,))):
                self._previous[signum] = signal.signal(signum, self._handle)
            for signum in PREEMPTION_SIGNALS:
                if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def raise_received(self) -> None:
        """Raise Interrupted if a signal has been received."""
        if self.received is not None:
            self._raise(self.received)

    def _raise(self, signum: int) -> None:
        """Call the handler of a preemption signal, which ends in SystemExit; else raise."""
        if signum in PREEMPTION_SIGNALS and callable(handler := self._previous.get(signum)):
            self._is_preempting = True
            try:
                handler(signum, None)
            except Exception as error:
                raise NotRequeuedError(signum, error) from error
            self._is_preempting = False
            if not self.deferred:
                return
            time.sleep(_REQUEUE)  # one of several processes: another one requeues the job
        raise Interrupted(signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._is_preempting:
            return  # the queue ends its job with SIGTERM while its own handler still runs
        earlier, late = self.received, time.monotonic() - self._received_at > _SAME_SIGNAL
        if earlier == signal.SIGTERM and signum in PREEMPTION_SIGNALS and self.deferred:
            self.received = signum  # some clusters send both, in that order
        elif earlier is None or late:
            self.received, self._received_at = signum, time.monotonic()
            if not self.deferred or earlier is not None:
                self._raise(signum)
            if not self._forwarded:
                with contextlib.suppress(OSError):  # not print, which may be what was interrupted
                    os.write(sys.stderr.fileno(), b"stopping after this step ...\n")
