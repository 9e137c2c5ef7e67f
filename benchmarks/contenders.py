"""The contenders: ours, torch's layers in several variants and Keras, on the same work.

The work is a step of training: embedding 30,000 x size, recurrent layer, final state, linear layer,
cross-entropy, backward, AdamW. Batches are built beforehand and are not timed.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.clock import seconds_per_pass
from benchmarks.peers import CompiledStepClassifier, Reads, TextbookClassifier
from benchmarks.reviews import MAX_LENGTH, VOCAB_SIZE, Sample, padding_share
from rnn_lab.data.batches import Batch
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig, OptimizerConfig
from rnn_lab.models.optimizers import build_optimizer

PROJECT = Path(__file__).resolve().parents[1]
OURS, OURS_BF16 = "ours, float32", "ours, bfloat16"
PACKED, PACKED_HERE = "torch, packed", "torch, packed, our process"
UNPACKED, TUTORIAL = "torch, unpacked", "torch, random batches"
GATHERED, COMPILED = "torch, last token's output", "torch.compile, a time step"
PACKED_BF16, GATHERED_BF16, UNPACKED_BF16 = (
    f"{name}, bfloat16" for name in (PACKED_HERE, GATHERED, UNPACKED)
)
PRODUCT, PRODUCT_BF16 = "float32 product", "bfloat16 product"
KERAS = {"tensorflow": "Keras", "jax": "Keras on JAX"}
KERAS_FIXED = {backend: f"{name}, {MAX_LENGTH} tokens" for backend, name in KERAS.items()}
IN_BF16 = (OURS_BF16, PACKED_BF16, GATHERED_BF16, UNPACKED_BF16)
INCORRECT = (UNPACKED, UNPACKED_BF16, TUTORIAL)  # their final states are those after the padding


@dataclass(frozen=True)
class Contender:
    """Something that trains on the sample: `turn(seconds)` returns the seconds of a pass."""

    turns: Mapping[int, Callable[[float], float]]  # by number of threads
    padding: float  # share of the positions it computes


def plain_model(name: str, size: int, *, bidirectional: bool = False) -> ModelConfig:
    """Return a model of that size without features that a peer lacks."""
    return ModelConfig.model_validate(
        {
            "name": name,
            "embedding_dim": size,
            "hidden_size": size,
            "bidirectional": bidirectional,
            "dropout": 0.0,
            "word_dropout": 0.0,
            "pooling": "last",
        }
    )


def thread_counts(most: int) -> list[int]:
    """Return the thread counts that a contender may choose from: one, or all."""
    return sorted({1, most})


def torch_contenders(
    config: ModelConfig, sample: Sample, threads: Sequence[int], *, bf16: bool
) -> dict[str, Contender]:
    """Build ours and torch's: all with one optimizer, all but the tutorial's with bucketed batches.

    Packed, unpacked and ours then differ in the recurrent layer alone: the process has the
    settings of train.py for all of them. With `bf16` each is also there under autocast.
    """

    def ours() -> nn.Module:
        return RecurrentClassifier(config, VOCAB_SIZE, num_classes=2)

    batches = sample.bucketed
    contenders = {OURS: torch_contender(ours(), batches, threads)}
    if bf16:
        contenders[OURS_BF16] = torch_contender(ours(), batches, threads, bf16=True)
    peers: dict[Reads, tuple[str, str]] = {
        "packed": (PACKED_HERE, PACKED_BF16),
        "padded": (UNPACKED, UNPACKED_BF16),
        "gathered": (GATHERED, GATHERED_BF16),
    }
    if config.bidirectional:
        del peers["gathered"]
    for reads, (name, name_bf16) in peers.items():
        contenders[name] = textbook_contender(config, batches, threads, reads)
        if bf16:
            contenders[name_bf16] = textbook_contender(config, batches, threads, reads, bf16=True)
    contenders[TUTORIAL] = textbook_contender(config, sample.random, threads, "padded")
    return contenders


def textbook_contender(
    config: ModelConfig,
    batches: Sequence[Batch],
    threads: Sequence[int],
    reads: Reads,
    *,
    bf16: bool = False,
) -> Contender:
    """Build torch's layer on packed sequences, or on the padded blocks."""
    model = TextbookClassifier(config, VOCAB_SIZE, num_classes=2, reads=reads)
    return torch_contender(model, batches, threads, bf16=bf16)


def compiled_contender(
    config: ModelConfig, batches: Sequence[Batch], threads: Sequence[int]
) -> Contender:
    """Build the classifier whose time step torch.compile compiles; it compiles here.

    Raises:
        Exception: whatever torch.compile raises, for example without a C++ compiler.
    """
    return torch_contender(CompiledStepClassifier(config, VOCAB_SIZE, 2), batches, threads)


def torch_contender(
    model: nn.Module,
    batches: Sequence[Batch],
    threads: Sequence[int],
    *,
    bf16: bool = False,
) -> Contender:
    """Build training steps of a network; of ours with lazy updates, as of train.py here."""
    lazy = isinstance(model, RecurrentClassifier)
    optimizer = build_optimizer(OptimizerConfig(), model, lazy=lazy)

    def step(batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(batch.tokens, batch.lengths).float()  # [batch, num_classes]
            loss = F.cross_entropy(logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def one_pass() -> None:
        for batch in batches:
            step(batch)

    def turn(count: int, seconds: float) -> float:
        with using_threads(count):
            return seconds_per_pass(one_pass, seconds)

    shortest = min(batches, key=lambda batch: batch.tokens.numel())
    for count in threads:  # allocates, builds kernels
        with using_threads(count):
            step(shortest)
    return Contender(
        {count: partial(turn, count) for count in threads}, padding_share(list(batches))
    )


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class KerasProcesses:
    """Keras with one back end: one process per thread count, which is fixed at its start."""

    def __init__(self, backend: str, threads: Sequence[int], folder: Path, python: str) -> None:
        """Start them; `folder` is a temporary one for the data they read."""
        self.backend, self._folder = backend, folder
        self._processes = {count: KerasProcess(count, folder, backend, python) for count in threads}

    def share(self, sample: Sample) -> None:
        """Write the batches for the processes: bucketed, and padded to MAX_LENGTH."""
        share_batches(sample, self._folder)

    def clear(self) -> None:
        """Delete every model."""
        for process in self._processes.values():
            process.ask("clear")

    def contenders(self, config: ModelConfig, sample: Sample) -> dict[str, Contender]:
        """Build Keras on our batches, and on batches of fixed length, as its layers make them."""

        def contender(prefix: str, padding: float) -> Contender:
            request = {
                "model": config.model_dump(),
                "vocab_size": VOCAB_SIZE,
                "batches": str(self._folder / "batches.npz"),
                "prefix": prefix,
            }
            turns: dict[int, Callable[[float], float]] = {}
            for count, process in self._processes.items():
                number = process.ask("add", **request)
                turns[count] = partial(_keras_turn, process, number)
            return Contender(turns, padding)

        batches = sample.bucketed
        return {
            KERAS[self.backend]: contender("bucketed", padding_share(batches)),
            KERAS_FIXED[self.backend]: contender("fixed", padding_share(batches, MAX_LENGTH)),
        }

    def close(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.close()


def _keras_turn(process: "KerasProcess", number: int, seconds: float) -> float:
    return float(process.ask("turn", number=number, seconds=seconds))


def share_batches(sample: Sample, folder: Path) -> None:
    """Write `batches.npz` for Keras: bucketed batches, and the same padded to MAX_LENGTH."""
    arrays: dict[str, np.ndarray] = {}
    for number, batch in enumerate(sample.bucketed):
        tokens = batch.tokens.numpy().astype(np.int32)  # [batch, time]
        missing = MAX_LENGTH - tokens.shape[1]
        arrays |= {
            f"bucketed_tokens_{number}": tokens,
            f"fixed_tokens_{number}": np.pad(tokens, ((0, 0), (0, missing))),
            f"bucketed_labels_{number}": batch.labels.numpy(),
            f"fixed_labels_{number}": batch.labels.numpy(),
        }
    np.savez(folder / "batches.npz", **arrays)  # type: ignore[arg-type]


class KerasProcess:
    """benchmarks.keras_peer in a process of its own, idle during the turns of others."""

    def __init__(
        self,
        threads: int,
        folder: Path,
        backend: str = "tensorflow",
        python: str = sys.executable,
    ) -> None:
        """Start `python`, which has Keras; `folder` is a temporary one for the data it reads."""
        self._log = folder / f"keras_{backend}_{threads}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.keras_peer", str(threads), backend],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, do: str, **request: Any) -> Any:
        """Call Peer's method `do` and return its result.

        Raises:
            RuntimeError: Keras failed; the message is the end of its output.
        """
        print(
            json.dumps({"do": do, **request}), file=cast(IO[str], self._process.stdin), flush=True
        )
        answer = cast(IO[str], self._process.stdout).readline()
        if not answer:
            raise RuntimeError(f"Keras failed: {self._log.read_text()[-2000:]}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        cast(IO[str], self._process.stdin).close()
        self._process.wait(timeout=60)
