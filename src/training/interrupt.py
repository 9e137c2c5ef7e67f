"""SIGTERM, Ctrl-C and a queue's signal: training stops between two steps, with a checkpoint."""

import signal
import sys
import threading
from types import FrameType
from typing import Any, Self

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

# By which a cluster tells a job to make room. submitit puts the job back into the queue then.
_MAKE_ROOM = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


class Interrupted(BaseException):
    """The signal `signum` asked this process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignals:
    """While entered, SIGTERM and SIGINT end the run in order.

    In training the signal is kept in `received`, for the callback that saves and then raises.
    A second one, or one at any other time, raises Interrupted at once. So does a queue's signal
    where somebody waits for it, who then has it in place of Interrupted.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.trainer: L.Trainer | None = None
        self._makes_room = False

    def __enter__(self) -> Self:
        self._former: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._former[signum] = signal.signal(signum, self._handle)
            for signum in _MAKE_ROOM:
                if callable(signal.getsignal(signum)):
                    self._former[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)

    def raise_received(self) -> None:
        """Raise Interrupted where a signal has been kept."""
        if self.received is not None:
            if self.received in _MAKE_ROOM:
                self._make_room(self.received, None)
            raise Interrupted(self.received)

    def _make_room(self, signum: int, frame: FrameType | None) -> None:
        """Call who waits for the signal; ends in SystemExit where this process is to end."""
        self._makes_room = True
        self._former[signum](signum, frame)
        self._makes_room = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._makes_room:
            return  # the queue ends its job with SIGTERM, before we have said all to it
        trainer = self.trainer
        in_training = (
            trainer is not None and trainer.state.fn == TrainerFn.FITTING and trainer.training
        )
        # Several processes would not stop at the same step, and then wait for each other.
        in_training = in_training and trainer is not None and trainer.world_size == 1
        if in_training and self.received == signal.SIGTERM and signum in _MAKE_ROOM:
            self.received = signum  # some clusters send both, in that order
        elif not in_training or trainer is None or self.received:
            if signum not in _MAKE_ROOM:
                raise Interrupted(signum)
            self._make_room(signum, frame)
        else:
            self.received = signum
            # Lightning's own handler comes first, and would stop where nothing can be saved.
            trainer._signal_connector.received_sigterm = False
            print("stopping after this step ...", file=sys.stderr)
