"""The `logger` options: the files of conf/logger, checked."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rnn_lab.validation import StrictConfig, Text


def _project_name(name: str) -> str:
    if not 0 < len(name) <= 128 or not set(name).isdisjoint(r"/\#?%:"):
        raise ValueError(r"give 1 to 128 characters, none of / \ # ? % :")
    return name


class WandbConfig(StrictConfig):
    """Weights & Biases; see conf/logger/wandb.yaml."""

    name: Literal["wandb"]
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: Annotated[Text, AfterValidator(_project_name)] | None = None
    entity: Text | None = None
    group: Text | None = None


class CsvConfig(StrictConfig):
    """The run's own metrics.csv and nothing else."""

    name: Literal["csv", "none"]


class TensorBoardConfig(StrictConfig):
    """TensorBoard event files in the output folder."""

    name: Literal["tensorboard"]


LoggerConfig = Annotated[WandbConfig | CsvConfig | TensorBoardConfig, Field(discriminator="name")]
