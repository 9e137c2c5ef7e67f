"""Train with Keras in a process of its own; with torch they would share threads.

Requests are lines of JSON on stdin, answers lines of JSON on stdout: `python -m
benchmarks.keras_peer THREADS BACKEND`, where BACKEND is tensorflow or jax. This module does not
import torch.
"""

import json
import os
import sys
import time
from typing import Any

import numpy as np

from benchmarks.clock import seconds_per_pass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

Batches = list[tuple[np.ndarray, np.ndarray]]  # tokens int32 [batch, time], labels int64 [batch]


class Peer:
    """Answers requests; each public method is a request."""

    def __init__(self) -> None:
        self._contenders: list[tuple[Any, Batches]] = []

    def clear(self) -> int:
        """Delete every model."""
        import keras

        self._contenders.clear()
        keras.utils.clear_session()
        return 0

    def add(self, model: dict[str, Any], vocab_size: int, batches: str, prefix: str) -> int:
        """Build a model for the batches of a file and run its first steps, which compile it.

        On TensorFlow, Keras traces once for the first shape and once for all others. XLA
        (jit_compile) would compile for each shape, for seconds each, so the choice is left to
        Keras. JAX always compiles for each shape: every batch is run once, off the clock.

        Returns:
            The model's number.
        """
        network, arrays = build(model, vocab_size), load_batches(batches, prefix)
        import keras

        first = len(arrays) if keras.backend.backend() == "jax" else 3
        for tokens, labels in arrays[:first]:
            network.train_on_batch(tokens, labels)
        self._contenders.append((network, arrays))
        return len(self._contenders) - 1

    def turn(self, number: int, seconds: float) -> float:
        """Return the seconds of a pass over the batches."""
        network, batches = self._contenders[number]

        def one_pass() -> None:
            for tokens, labels in batches:
                network.train_on_batch(tokens, labels)

        return seconds_per_pass(one_pass, seconds)

    def learn(self, setup: str, limit: float, target: float) -> list[tuple[float, float]]:
        """Train by the plan of a file until test accuracy reaches `target` or for `limit` seconds.

        Testing stops the clock.

        Returns:
            The curve: seconds on the clock and test accuracy.
        """
        with np.load(setup) as file:
            plan = {name: file[name] for name in file.files}
        options = json.loads(str(plan["options"]))
        started = time.perf_counter()
        network = build(options["model"], options["vocab_size"], options["optimizer"])
        spent = time.perf_counter() - started
        curve: list[tuple[float, float]] = []
        for step, rate in enumerate(plan["learning_rates"]):
            started = time.perf_counter()
            network.optimizer.learning_rate = rate
            rows = plan["rows"][step]
            network.train_on_batch(*read_batch(plan, "train", rows[rows >= 0]))
            spent += time.perf_counter() - started
            if (step + 1) % options["test_every"] == 0 or spent > limit:
                curve.append((spent, accuracy(network, plan)))
                if spent > limit or curve[-1][1] >= target:
                    break
        return curve


def build(model: dict[str, Any], vocab_size: int, optimizer: dict[str, Any] | None = None) -> Any:
    """Build the network of a ModelConfig in float32, with masks so that padding is not read."""
    import keras
    from keras import layers

    optimizer = optimizer or {"lr": 2e-3, "weight_decay": 0.01, "clip": None}
    names = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}
    recurrent = names[model["name"]](model["hidden_size"])
    if model["bidirectional"]:
        recurrent = layers.Bidirectional(recurrent)
    normal = keras.initializers.RandomNormal(stddev=0.1)
    dropout = [layers.Dropout(model["dropout"])] if model["dropout"] else []
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(vocab_size, model["embedding_dim"], normal, mask_zero=True),
            *dropout,
            recurrent,
            *(layers.Dropout(model["dropout"]) for _ in dropout),
            layers.Dense(2),
        ]
    )
    network.compile(
        optimizer=keras.optimizers.AdamW(
            optimizer["lr"],
            weight_decay=optimizer["weight_decay"],
            epsilon=1e-8,
            global_clipnorm=optimizer["clip"],
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return network


def load_batches(path: str, prefix: str) -> Batches:
    """Load the batches of a file: arrays `<prefix>_tokens_0`, `<prefix>_labels_0`, ..."""
    with np.load(path) as file:
        count = sum(name.startswith(f"{prefix}_tokens_") for name in file.files)
        return [(file[f"{prefix}_tokens_{i}"], file[f"{prefix}_labels_{i}"]) for i in range(count)]


def read_batch(
    plan: dict[str, np.ndarray], split: str, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens int32 [batch, time], padded on the right with 0, and labels [batch]."""
    longest = plan[f"{split}_lengths"][rows].max()
    return plan[f"{split}_tokens"][rows, :longest], plan[f"{split}_labels"][rows]


def accuracy(network: Any, plan: dict[str, np.ndarray]) -> float:
    """Return the share of the test reviews that `network` labels correctly."""
    order = np.argsort(plan["test_lengths"])
    correct = 0
    for rows in np.array_split(order, max(1, len(order) // 256)):
        tokens, labels = read_batch(plan, "test", rows)
        correct += int((network.predict_on_batch(tokens).argmax(axis=1) == labels).sum())
    return correct / len(order)


def main() -> None:
    """Answer requests until stdin ends."""
    threads, backend = int(sys.argv[1]), sys.argv[2]
    answers, sys.stdout = sys.stdout, sys.stderr  # Keras prints to stdout
    os.environ["KERAS_BACKEND"] = backend
    if backend == "jax":
        # Read when JAX starts: its number of threads, and whether one product may use several.
        os.environ["NPROC"] = str(threads)
        os.environ["JAX_PLATFORMS"] = "cpu"
        if threads == 1:
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    else:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    peer = Peer()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(peer, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
