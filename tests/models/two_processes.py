"""Trains in one process and in two on the same texts; prints the metrics of each in a line."""

import json

import lightning as L
from torch.utils.data import DataLoader

from tests.models.test_lightning_module import (
    Batch,
    batches,
    build,
    loader,
    trainer,
    which_comes_first,
)


class HalfOfTheReviews(L.LightningDataModule):
    """Every second batch to each of two processes, of different sizes."""

    def __init__(self, found: list[Batch]) -> None:
        super().__init__()
        self.found = found

    def train_dataloader(self) -> DataLoader:
        return loader(self.found[self.trainer.global_rank :: self.trainer.world_size])

    val_dataloader = train_dataloader


def main() -> None:
    for options in ({}, {"strategy": "ddp_spawn", "devices": 2, "use_distributed_sampler": False}):
        L.seed_everything(1)
        model = build(
            model={"dropout": 0.0, "word_dropout": 0.0}, optimizer={"name": "sgd", "lr": 1e-12}
        )
        run = trainer(max_epochs=1, **options)
        run.fit(model, datamodule=HalfOfTheReviews(batches(which_comes_first(60, seed=3), 50)))
        print(json.dumps({name: float(value) for name, value in run.callback_metrics.items()}))
