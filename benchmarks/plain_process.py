"""torch's packed loop in a process with torch's default settings, as in a textbook.

Unlike in train.py, denormal numbers are kept, freed memory returns to the system, and pages are
small.
"""

import multiprocessing
import os
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.contenders import Contender, textbook_contender
from benchmarks.reviews import Sample
from rnn_lab.data.batches import Batch
from rnn_lab.models.config import ModelConfig


class PlainProcess:
    """A second process, idle during the turns of others."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # inherits none of our settings
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        ours = os.environ["THP_MEM_ALLOC_ENABLE"]
        os.environ["THP_MEM_ALLOC_ENABLE"] = "0"  # importing this package would set it to 1
        self._process.start()
        os.environ["THP_MEM_ALLOC_ENABLE"] = ours
        theirs.close()

    def packed(self, config: ModelConfig, sample: Sample, threads: Sequence[int]) -> Contender:
        """Build the packed loop over the bucketed batches in that process.

        Raises:
            EOFError: the process ended.
        """
        arrays = [[part.numpy() for part in batch] for batch in sample.bucketed]
        number, padding = self._ask("add", config, arrays, threads)
        turns = {count: partial(self._ask, "turn", number, count) for count in threads}
        return Contender(turns, padding)

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=60)

    def _ask(self, *request: Any) -> Any:
        self._pipe.send(request)
        return self._pipe.recv()


def _serve(pipe: Connection) -> None:
    contenders: list[Contender] = []
    while True:
        try:
            do, *arguments = pipe.recv()
        except EOFError:
            return
        if do == "turn":
            number, count, seconds = arguments
            pipe.send(contenders[number].turns[count](seconds))
            continue
        config, arrays, threads = arguments
        batches = [Batch(*(torch.from_numpy(part) for part in batch)) for batch in arrays]
        contenders.append(textbook_contender(config, batches, threads, "packed"))
        pipe.send((len(contenders) - 1, contenders[-1].padding))
