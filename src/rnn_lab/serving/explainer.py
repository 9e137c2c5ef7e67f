"""Compute explanations one at a time, beside the predictions."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from rnn_lab.serving.batcher import QueueFullError

MAX_WAITING = 8


class Explainer:
    """A thread that calls functions in order, and the bounded queue before it.

    It is a daemon: the process can end during an explanation, which may take many seconds.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="explainer", daemon=True)
        self._thread.start()

    def submit(self, compute: Callable[[], Any]) -> Future[Any]:
        """Queue a function; return the future of its result.

        Raises:
            QueueFullError: too many wait.
        """
        if self._jobs.qsize() >= MAX_WAITING:
            raise QueueFullError
        future: Future[Any] = Future()
        self._jobs.put((compute, future))
        return future

    def close(self, timeout: float) -> bool:
        """Stop after what is being computed; return whether the thread has ended."""
        self._jobs.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            compute, future = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(compute())
                except Exception as error:  # of the model, or no memory: the next one may succeed
                    future.set_exception(error)
            del job, compute, future
