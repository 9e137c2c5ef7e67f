"""Everything that train.py may be told: the whole of conf/train.yaml, checked."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from rnn_lab.data.config import DataConfig
from rnn_lab.models.config import ModelOptions, OptimizerConfig, SchedulerConfig
from rnn_lab.validation import StrictConfig, validate


def _share_or_number(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or value <= 0 or (value > 1 and not isinstance(value, int)):
        raise ValueError("give a share of the batches, above 0 to 1.0, or a number of batches")
    return value


def _auto_or_number(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("impossible value. Choose from: auto, 1 and up")
    return value


def _epoch_or_number(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if value is not None and value != "epoch" and not number:
        raise ValueError("impossible value. Choose from: null, epoch, a number of steps")
    return value


def _name_of_a_folder(value: Any) -> Any:
    name = str(value) if isinstance(value, int) else value
    if isinstance(name, str) and not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError("give a name for the folder of the sweep under runs/")
    return name


BatchLimit = Annotated[float | int, BeforeValidator(_share_or_number)]
Devices = Annotated[int | Literal["auto"], BeforeValidator(_auto_or_number)]
MeasureInterval = Annotated[int | Literal["epoch"] | None, BeforeValidator(_epoch_or_number)]
SweepName = Annotated[str, BeforeValidator(_name_of_a_folder)]
Monitor = Literal["val/accuracy", "val/f1", "val/auroc", "val/loss"]


class TrainerConfig(StrictConfig):
    """Where and how long a run trains; see conf/trainer/auto.yaml."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: Devices = 1
    strategy: Literal["auto", "ddp"] = "auto"
    num_nodes: PositiveInt = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    max_epochs: PositiveInt = 3
    gradient_clip_val: PositiveFloat | None = 1.0
    accumulate_grad_batches: PositiveInt = 1
    monitor: Monitor = "val/accuracy"
    patience: PositiveInt | None = None
    limit_train_batches: BatchLimit = 1.0
    limit_val_batches: BatchLimit = 1.0
    limit_test_batches: BatchLimit = 1.0
    log_every_n_steps: PositiveInt = 20
    gradient_flow: MeasureInterval = None
    enable_progress_bar: bool = True
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    max_rollbacks: PositiveInt = 3
    checkpoint_every_n_steps: PositiveInt | None = None
    checkpoint_every_n_minutes: PositiveFloat | None = 5.0

    @property
    def monitor_mode(self) -> Literal["min", "max"]:
        """Whether a smaller or a larger `monitor` is better."""
        return "min" if self.monitor == "val/loss" else "max"


class WandbConfig(StrictConfig):
    """Weights & Biases; see conf/logger/wandb.yaml."""

    name: Literal["wandb"]
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "rnn-lab"
    entity: str | None = None
    group: str | None = None


class CsvConfig(StrictConfig):
    """The run folder's own metrics.csv and nothing else."""

    name: Literal["csv", "none"]


class TensorBoardConfig(StrictConfig):
    """TensorBoard event files in the run folder."""

    name: Literal["tensorboard"]


LoggerConfig = Annotated[WandbConfig | CsvConfig | TensorBoardConfig, Field(discriminator="name")]


class TrialConfig(StrictConfig):
    """Which trial of a search a run is; see `trial` in conf/train.yaml."""

    number: NonNegativeInt | None = None
    study: str | None = None
    storage: str | None = None

    @model_validator(mode="after")
    def _study_is_named(self) -> Self:
        if self.number is not None and (self.study is None or self.storage is None):
            raise ValueError("trial.number: needs trial.study and trial.storage")
        return self


class RunConfig(StrictConfig):
    """One run."""

    seed: Annotated[NonNegativeInt, Field(lt=2**32)] = 1
    name: str | None = None
    tags: tuple[str, ...] = ()
    model: ModelOptions
    data: DataConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    experiment: str | None = None
    sweep: SweepName | None = None
    max_retries: NonNegativeInt = 0
    resume: Literal["auto", "never"] = "auto"
    trial: TrialConfig = TrialConfig()
    reproduce: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _training_texts_are_named(cls, options: Any) -> Any:
        data = options.get("data", {}) if isinstance(options, dict) else {}
        if isinstance(data, dict) and data.get("source") == "files" and not data.get("train"):
            raise ValueError("data.train is not set; say data.train=<file or folder of texts>")
        return options


class _Sweep(StrictConfig):
    sweep: SweepName | None


def check_sweep_name(name: Any) -> None:
    """Make sure that `sweep=<name>` can name a folder under runs/.

    Raises:
        ConfigError: it cannot.
    """
    validate(_Sweep, {"sweep": name})
