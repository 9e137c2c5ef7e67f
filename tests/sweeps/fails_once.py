"""A plugin: the first attempt of a run fails where the variable FAILS says.

"data": before the checkpoints in the folder are looked at; "training": in the second epoch.
"""

import os
from typing import Any, Self

import lightning as L

from rnn_lab.data import VocabularyTokenizer, register_tokenizer

failures = [os.environ.get("FAILS")]


def fail(where: str) -> None:
    if where in failures:
        failures.clear()
        raise RuntimeError(f"once, in {where}")


@register_tokenizer("fails_once")
class Spaces(VocabularyTokenizer):
    unit = "word"

    @classmethod
    def train(cls, *arguments: Any, **options: Any) -> Self:
        fail("data")
        return super().train(*arguments, **options)

    @staticmethod
    def tokenize(text: str) -> list[str]:
        return text.split()


class FailsOnce(L.Callback):
    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (1, 1):
            fail("training")
