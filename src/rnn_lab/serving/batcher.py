"""Gather the texts of concurrent requests into batches that one thread gives to the model."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from rnn_lab.inference.predictor import SingleModel

# Of one batch, with its padding: bounds the memory of a batch of long texts.
MAX_TOKENS = 2**15

Item = str | np.ndarray  # a text, or its ids


class QueueFullError(Exception):
    """More texts wait for the model than the queue may hold."""


class ClosedError(Exception):
    """The server stops, and the model computes nothing more."""


class _Job(NamedTuple):
    items: Sequence[Item]
    future: Future[np.ndarray]  # float32 [items, classes]


class Batcher:
    """A thread that computes class probabilities, and the bounded queue of texts before it.

    A batch starts `max_wait` seconds after its first text has arrived, or at once if it is full.
    While the model computes, the next one fills.
    """

    def __init__(
        self,
        run: SingleModel,
        *,
        max_batch_size: int = 64,
        max_wait: float = 0.002,
        max_queue: int = 2000,
        observe: Callable[[int], None] = lambda texts: None,
    ) -> None:
        """Start the thread.

        Args:
            run: the model; nothing else may use it.
            max_batch_size: texts that the model reads at once.
            max_wait: seconds that the first text of a batch waits for others.
            max_queue: texts that wait at most.
            observe: called with the number of texts of each batch.
        """
        self._run = run
        self._max_batch_size, self._max_wait = max_batch_size, max_wait
        self._max_queue = max_queue
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._waiting = 0  # texts of the jobs
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of texts in the queue."""
        return self._waiting

    def submit(self, items: Sequence[Item], *, bounded: bool = True) -> list[Future[np.ndarray]]:
        """Queue texts; return one future for each part of up to `max_batch_size` of them, in order.

        Cancelling a future removes its part from the queue, unless the model reads it already.

        Args:
            items: texts, or their ids.
            bounded: False for a caller that bounds what it submits itself.

        Raises:
            QueueFullError: the queue has not enough free places.
            ClosedError: the batcher is closed.
        """
        size = self._max_batch_size
        jobs = [_Job(items[i : i + size], Future()) for i in range(0, len(items), size)]
        with self._changed:
            if self._closed:
                raise ClosedError
            if bounded and self._waiting + len(items) > self._max_queue:
                raise QueueFullError
            self._jobs.extend(jobs)
            self._waiting += len(items)
            self._changed.notify()
        return [job.future for job in jobs]

    def close(self, timeout: float | None = None) -> None:
        """Stop once the batch at the model is done; what still waits fails with ClosedError."""
        with self._changed:
            self._closed = True
            jobs, self._waiting = list(self._jobs), 0
            self._jobs.clear()
            self._changed.notify()
        for job in jobs:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(ClosedError())
        self._thread.join(timeout)

    def _work(self) -> None:
        while batch := self._next_batch():
            jobs = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if jobs:
                self._answer(jobs)
            # No reference to texts and results while it waits for the next batch.
            batch.clear()
            jobs.clear()

    def _next_batch(self) -> list[_Job]:
        """Wait for jobs; return those of the next batch, none once the batcher is closed."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return []
                self._changed.wait()
            batch = [self._take()]
            count = len(batch[0].items)
            until = time.monotonic() + self._max_wait
            while count < self._max_batch_size:
                if not self._jobs:
                    remaining = until - time.monotonic()
                    if remaining <= 0 or self._closed:
                        break
                    self._changed.wait(remaining)
                    continue
                if count + len(self._jobs[0].items) > self._max_batch_size:
                    break
                batch.append(self._take())
                count += len(batch[-1].items)
            return batch

    def _take(self) -> _Job:
        job = self._jobs.popleft()
        self._waiting -= len(job.items)
        return job

    def _answer(self, jobs: list[_Job]) -> None:
        try:
            encoded = self._encode([item for job in jobs for item in job.items])
            probabilities = self._classify(encoded)
        except Exception as error:  # of the model, or no memory: the next batch may succeed
            for job in jobs:
                job.future.set_exception(error)
            return
        self._observe(len(encoded))
        start = 0
        for job in jobs:
            job.future.set_result(probabilities[start : start + len(job.items)])
            start += len(job.items)

    def _encode(self, items: Sequence[Item]) -> list[np.ndarray]:
        texts = iter(
            self._run.text_encoder.encode_all([item for item in items if isinstance(item, str)])
        )
        return [next(texts) if isinstance(item, str) else item for item in items]

    def _classify(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities, float32 [texts, classes], of texts by their ids."""
        probabilities = np.empty((len(texts), len(self._run.class_names)), dtype=np.float32)
        for rows in _by_length(texts):
            probabilities[rows] = self._run.probabilities([texts[row] for row in rows])
        return probabilities


def _by_length(texts: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Yield the positions of texts of similar length, of at most MAX_TOKENS with padding."""
    rows: list[int] = []
    for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
        if rows and (len(rows) + 1) * len(texts[row]) > MAX_TOKENS:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
