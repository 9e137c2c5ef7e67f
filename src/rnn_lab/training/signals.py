"""SIGTERM, Ctrl-C and a queue's signal: a run ends in order, its training with a checkpoint."""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Self

# By which a cluster tells a job to make room. submitit puts the job back into the queue then.
PREEMPTION_SIGNALS = [
    getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]

# Seconds. A second signal within them is the first again: some are sent to a whole group.
_SAME = 1.0
_PUT_BACK = 10.0


class Interrupted(BaseException):
    """The signal `signum` asked this process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class GracefulShutdown:
    """While entered, SIGTERM and SIGINT end the run in order.

    A signal raises Interrupted at once, unless `kept`: then somebody looks now and then at
    `received`, who saves and then raises. A second one, a second later, raises in any case. A
    queue's signal, where somebody waits for it, is given to them in place of Interrupted.
    """

    def __init__(self, *, passed_on: bool = False) -> None:
        """Listen; where signals are `passed_on` by the process that started this one, to SIGTERM
        alone and without a word.
        """
        self.received: int | None = None
        self.kept = False
        self._passed_on = passed_on
        self._received_at = 0.0
        self._makes_room = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, *(() if self._passed_on else (signal.SIGINT,))):
                self._former[signum] = signal.signal(signum, self._handle)
            for signum in PREEMPTION_SIGNALS:
                if callable(signal.getsignal(signum)):
                    self._former[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)

    def raise_received(self) -> None:
        """Raise Interrupted where a signal has been received."""
        if self.received is not None:
            self._raise(self.received)

    def _raise(self, signum: int) -> None:
        """Let make room who waits for that, and ends in SystemExit; else raise Interrupted."""
        if signum in PREEMPTION_SIGNALS and signum in self._former:
            self._makes_room = True
            self._former[signum](signum, None)
            self._makes_room = False
            if not self.kept:
                return
            time.sleep(_PUT_BACK)  # one of several processes, of which another puts the job back
        raise Interrupted(signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._makes_room:
            return  # the queue ends its job with SIGTERM, before we have said all to it
        former, late = self.received, time.monotonic() - self._received_at > _SAME
        if former == signal.SIGTERM and signum in PREEMPTION_SIGNALS and self.kept:
            self.received = signum  # some clusters send both, in that order
        elif former is None or late:
            self.received, self._received_at = signum, time.monotonic()
            if not self.kept or former is not None:
                self._raise(signum)
            if not self._passed_on:
                with contextlib.suppress(OSError):  # `print` may be what has been interrupted
                    os.write(sys.stderr.fileno(), b"stopping after this step ...\n")
