"""Trains and tests in two processes; each writes the texts that it received into a folder."""

import json
import sys
from pathlib import Path
from typing import Any

from rnn_lab.data.config import DemoConfig
from rnn_lab.data.datamodule import TextDataModule
from tests.data.test_datamodule import Recorder, make_trainer


class Writer(Recorder):
    """Write what it has recorded as JSON, by stage and rank."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_fit_end(self) -> None:
        self.write("fit")

    def on_test_end(self) -> None:
        self.write("test")

    def write(self, stage: str) -> None:
        (self.folder / f"{stage}{self.global_rank}.json").write_text(json.dumps(self.seen))


def main() -> None:
    folder = Path(sys.argv[1])
    sizes = {"num_train": 200, "num_test": 61, "batch_size": 8, "eval_batch_size": 16}
    config = DemoConfig(**sizes, cache_dir=str(folder / "cache"))
    options: dict[str, Any] = {"strategy": "ddp_fork", "devices": 2, "max_epochs": 2}
    for stage in ("fit", "test"):
        trainer = make_trainer(folder, **options, enable_checkpointing=False)
        getattr(trainer, stage)(Writer(folder), datamodule=TextDataModule(config))
