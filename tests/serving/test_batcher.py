"""Texts of concurrent requests become batches, and one request's fault is not another's."""

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

from rnn_lab.inference.predictor import SingleModel
from rnn_lab.serving.batcher import MAX_TOKENS, Batcher, ClosedError, QueueFullError
from rnn_lab.serving.explainer import MAX_WAITING, Explainer
from tests.inference.untrained import untrained_run


class Slow(SingleModel):
    """A run that notes its batches, and computes when it is allowed to."""

    def __init__(self) -> None:
        self.run = untrained_run(max_length=2**20)
        self.text_encoder, self.class_names = self.run.text_encoder, self.run.class_names
        self.path, self.read_info = self.run.path, None
        self.batches: list[tuple[int, int]] = []
        self.go, self.fails = threading.Event(), False
        self.reading = threading.Event()
        self.go.set()

    cell, temperature, thresholds, label_separator = "lstm", 1.0, None, ";"

    def probabilities(self, texts):
        self.reading.set()
        assert self.go.wait(60)
        if self.fails:
            self.fails = False
            raise MemoryError("no memory")
        self.batches.append((len(texts), max(map(len, texts))))
        return self.run.probabilities(texts)


@pytest.fixture
def slow():
    return Slow()


def hold(slow: Slow, batcher: Batcher, text: str = "a film"):
    """Have the model read one text until `slow.go` is set."""
    slow.go.clear()
    slow.reading.clear()
    (first,) = batcher.submit([text])
    assert slow.reading.wait(60)
    return first


def test_what_waits_is_read_together_and_answered_apart(slow):
    seen = []
    batcher = Batcher(slow, max_batch_size=8, max_wait=0, observe=seen.append)
    first = hold(slow, batcher)
    texts = ["a good film", "not bad at all", "film " * 30, "the"]
    waiting = [batcher.submit([text, "a"]) for text in texts]
    assert batcher.waiting == 8
    slow.go.set()
    for text, (future,) in zip(texts, waiting, strict=True):
        ids = [slow.text_encoder.encode(text), slow.text_encoder.encode("a")]
        np.testing.assert_allclose(future.result(60), slow.run.probabilities(ids), atol=1e-6)
    assert first.result(60).shape == (1, 2)
    assert seen == [1, 8]
    assert batcher.waiting == 0
    batcher.close()


def test_a_batch_is_no_larger_than_allowed_and_waits_no_longer(slow):
    batcher = Batcher(slow, max_batch_size=4, max_wait=0.05)
    start = time.monotonic()
    parts = batcher.submit(["a film"] * 10)
    assert [len(part.result(60)) for part in parts] == [4, 4, 2]
    assert time.monotonic() - start < 30
    assert [size for size, _ in slow.batches] == [4, 4, 2]
    batcher.close()


def test_long_texts_are_read_in_smaller_parts(slow):
    batcher = Batcher(slow, max_batch_size=16)
    long = "film " * (MAX_TOKENS // 4)
    (part,) = batcher.submit([long, "a", long, "a film", long, long, "a", long])
    assert part.result(60).shape == (8, 2)
    assert all(size * length <= MAX_TOKENS for size, length in slow.batches)
    assert len(slow.batches) > 1
    # One text that is longer than all that is allowed is read alone.
    (part,) = batcher.submit(["film " * (MAX_TOKENS + 1)])
    assert part.result(60).shape == (1, 2)
    batcher.close()


def test_a_full_queue_refuses_and_what_is_cancelled_is_not_read(slow):
    batcher = Batcher(slow, max_batch_size=2, max_wait=0, max_queue=3)
    hold(slow, batcher)
    kept = batcher.submit(["a", "a", "a"])
    with pytest.raises(QueueFullError):
        batcher.submit(["a"])
    unbounded = batcher.submit([np.array([3])], bounded=False)
    assert kept[0].cancel()
    slow.go.set()
    assert kept[1].result(60).shape == (1, 2)
    assert unbounded[0].result(60).shape == (1, 2)
    assert sum(size for size, _ in slow.batches) == 3
    with pytest.raises(CancelledError):
        kept[0].result(0)
    batcher.close()


def test_a_batch_that_fails_is_the_only_one(slow):
    batcher = Batcher(slow, max_wait=0)
    slow.fails = True
    with pytest.raises(MemoryError):
        batcher.submit(["a"])[0].result(60)
    assert batcher.submit(["a"])[0].result(60).shape == (1, 2)
    batcher.close()


def test_a_closed_batcher_answers_what_it_reads_and_refuses_the_rest(slow):
    batcher = Batcher(slow, max_batch_size=1, max_wait=0)
    first = hold(slow, batcher)
    (waiting,) = batcher.submit(["a"])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    with pytest.raises(ClosedError):
        waiting.result(60)
    slow.go.set()
    closing.join(60)
    assert first.result(60).shape == (1, 2)
    with pytest.raises(ClosedError):
        batcher.submit(["a"])
    assert batcher.waiting == 0


def test_explanations_are_computed_in_order_and_few_wait():
    explainer, go = Explainer(), threading.Event()
    first = explainer.submit(lambda: go.wait(60))
    while first.running() is False:
        time.sleep(0.001)
    fails = explainer.submit(lambda: 1 / 0)
    futures = [explainer.submit(lambda i=i: i) for i in range(MAX_WAITING - 1)]
    with pytest.raises(QueueFullError):
        explainer.submit(lambda: None)
    assert futures[0].cancel()
    assert not explainer.close(timeout=0.01)
    go.set()
    with pytest.raises(ZeroDivisionError):
        fails.result(60)
    assert [future.result(60) for future in futures[1:]] == list(range(1, MAX_WAITING - 1))
    assert explainer.close(timeout=60)
