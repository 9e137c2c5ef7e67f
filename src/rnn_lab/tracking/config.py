"""The `logger` options: the files of conf/logger, checked."""

from typing import Annotated, Literal

from pydantic import Field

from rnn_lab.validation import StrictConfig, Text


class WandbConfig(StrictConfig):
    """Weights & Biases; see conf/logger/wandb.yaml."""

    name: Literal["wandb"]
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: Text = "rnn-lab"
    entity: Text | None = None
    group: Text | None = None


class CsvConfig(StrictConfig):
    """The run's own metrics.csv and nothing else."""

    name: Literal["csv", "none"]


class TensorBoardConfig(StrictConfig):
    """TensorBoard event files in the output folder."""

    name: Literal["tensorboard"]


LoggerConfig = Annotated[WandbConfig | CsvConfig | TensorBoardConfig, Field(discriminator="name")]
