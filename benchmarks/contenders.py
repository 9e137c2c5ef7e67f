"""The contenders: ours, torch's layers in four variants and Keras in two, on the same work.

The work is a step of training: embedding 30,000 x size, recurrent layer, final state, linear layer,
cross-entropy, backward, AdamW. Batches are built beforehand and are not timed.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.clock import seconds_per_pass
from benchmarks.peers import TextbookClassifier
from benchmarks.reviews import MAX_LENGTH, VOCAB_SIZE, Sample, padding_share
from rnn_lab.data.samplers import Batch
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import ModelConfig, OptimizerConfig
from rnn_lab.models.optimizers import build_optimizer

PROJECT = Path(__file__).resolve().parents[1]
OURS, OURS_BF16 = "ours, float32", "ours, bfloat16"
PACKED, PACKED_HERE = "torch, packed", "torch, packed, our process"
UNPACKED, TUTORIAL = "torch, unpacked", "torch, random batches"
PRODUCT, PRODUCT_BF16 = "float32 product", "bfloat16 product"
KERAS, KERAS_FIXED = "Keras", f"Keras, {MAX_LENGTH} tokens"


@dataclass(frozen=True)
class Contender:
    """Something that trains on the sample: `turn(seconds)` returns the seconds of a pass."""

    turn: Callable[[float], float]
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


def torch_contenders(config: ModelConfig, sample: Sample, *, bf16: bool) -> dict[str, Contender]:
    """Build ours and torch's: all with one optimizer, all but the tutorial's with bucketed batches.

    Packed, unpacked and ours then differ in the recurrent layer alone: the process has the
    settings of train.py for all of them.
    """

    def ours() -> nn.Module:
        return RecurrentClassifier(config, VOCAB_SIZE, num_classes=2)

    contenders = {OURS: _torch_contender(ours(), sample.bucketed)}
    if bf16:
        contenders[OURS_BF16] = _torch_contender(ours(), sample.bucketed, bf16=True)
    contenders[PACKED_HERE] = textbook_contender(config, sample.bucketed, packed=True)
    contenders[UNPACKED] = textbook_contender(config, sample.bucketed, packed=False)
    contenders[TUTORIAL] = textbook_contender(config, sample.random, packed=False)
    return contenders


def textbook_contender(config: ModelConfig, batches: Sequence[Batch], *, packed: bool) -> Contender:
    """Build torch's layer on packed sequences, or on the padded blocks."""
    model = TextbookClassifier(config, VOCAB_SIZE, num_classes=2, packed=packed)
    return _torch_contender(model, batches)


def _torch_contender(
    model: nn.Module, batches: Sequence[Batch], *, bf16: bool = False
) -> Contender:
    optimizer = build_optimizer(OptimizerConfig(), model)

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

    step(min(batches, key=lambda batch: batch.tokens.numel()))  # allocates, builds kernels
    return Contender(
        lambda seconds: seconds_per_pass(one_pass, seconds), padding_share(list(batches))
    )


class KerasProcess:
    """benchmarks.keras_peer in a process of its own, idle during the turns of others."""

    def __init__(self, threads: int, folder: Path) -> None:
        """Start the process; `folder` is a temporary one for the data it reads."""
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.keras_peer", str(threads)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "keras.log").open("w"),
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
            raise RuntimeError(f"Keras failed: {(self._folder / 'keras.log').read_text()[-2000:]}")
        return json.loads(answer)

    def share(self, sample: Sample) -> None:
        """Write the batches for the process: bucketed, and padded to MAX_LENGTH."""
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
        np.savez(self._folder / "batches.npz", **arrays)  # type: ignore[arg-type]

    def contenders(self, config: ModelConfig, sample: Sample) -> dict[str, Contender]:
        """Build Keras on our batches, and on batches of fixed length, as its layers make them."""

        def contender(prefix: str, padding: float) -> Contender:
            number = self.ask(
                "add",
                model=config.model_dump(),
                vocab_size=VOCAB_SIZE,
                batches=str(self._folder / "batches.npz"),
                prefix=prefix,
            )
            return Contender(lambda s: self.ask("turn", number=number, seconds=s), padding)

        batches = sample.bucketed
        return {
            KERAS: contender("bucketed", padding_share(batches)),
            KERAS_FIXED: contender("fixed", padding_share(batches, MAX_LENGTH)),
        }

    def close(self) -> None:
        """End the process."""
        cast(IO[str], self._process.stdin).close()
        self._process.wait(timeout=60)
