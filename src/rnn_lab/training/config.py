"""The options of train.py: everything that conf/train.yaml may hold, checked."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from rnn_lab.data.config import DataOptions
from rnn_lab.data.options import SKIPGRAM
from rnn_lab.errors import ConfigError
from rnn_lab.models.config import (
    ClassificationConfig,
    LossConfig,
    ModelOptions,
    ObjectiveConfig,
    OptimizerConfig,
    SchedulerConfig,
    label_free_losses,
)
from rnn_lab.models.metric_table import (
    LANGUAGE_MODEL,
    MULTICLASS,
    MULTILABEL,
    MetricMode,
    metric_mode,
    metrics_of,
)
from rnn_lab.plugins import load_plugins
from rnn_lab.reserved_options import reserved_option_error
from rnn_lab.tracking.config import LoggerConfig
from rnn_lab.validation import (
    AUTO,
    FilePath,
    OrAuto,
    StrictConfig,
    Target,
    Targets,
    Text,
    unknown_choice_message,
    validate,
)

# That may select an epoch.
METRICS_OF_TASK = {
    task: [f"val/{metric.name}" for metric in metrics_of(task) if metric.selects_epoch]
    for task in (MULTICLASS, MULTILABEL, LANGUAGE_MODEL)
}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _share_or_number(value: Any) -> Any:
    if not _is_count(value) and not (isinstance(value, float) and 0 < value <= 1):
        raise ValueError("give a share of the batches, above 0 to 1.0, or a number of batches")
    return value


def _none_share_or_number(value: Any) -> Any:
    return value if value == 0 and value is not False else _share_or_number(value)


def _epoch_or_number(value: Any) -> Any:
    if value not in (None, "epoch") and not _is_count(value):
        raise ValueError("impossible value. Choose from: null, epoch, a number of steps")
    return value


def _duration(value: Any) -> Any:
    if isinstance(value, dict) and value and all(isinstance(n, int) for n in value.values()):
        units = ["days", "hours", "minutes", "seconds"]
        if unknown := value.keys() - units:
            name = min(unknown)
            raise ValueError(unknown_choice_message(f"{name}: is no unit of time", name, units))
        return value
    if value is None or (isinstance(value, str) and re.fullmatch(r"\d+(:\d\d){3}", value)):
        return value
    option = "trainer.max_time: " if isinstance(value, dict) else ""
    raise ValueError(f"{option}give 00:02:00:00 (days:hours:minutes:seconds) or {{hours: 2}}")


def _folder_name(name: str) -> str:
    is_name = name.isprintable() and name == name.strip() and "${" not in name
    if not is_name or not re.fullmatch(r"[^./\\][^/\\]*", name):
        raise ValueError(
            "give a name for the folder of the sweep under runs/, without slashes, ${ or first dot"
        )
    return name


BatchLimit = Annotated[float | int, BeforeValidator(_share_or_number)]
OverfitBatches = Annotated[float | int, BeforeValidator(_none_share_or_number)]
MeasureInterval = Annotated[int | Literal["epoch"] | None, BeforeValidator(_epoch_or_number)]
Duration = Annotated[str | dict[str, int] | None, BeforeValidator(_duration)]
SweepName = Annotated[Text, AfterValidator(_folder_name)]
Endless = Literal[-1]
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]


class TrainerConfig(StrictConfig):
    """The options of Lightning's Trainer, and a few more; see conf/trainer/auto.yaml."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: Annotated[PositiveInt, OrAuto()] = 1
    strategy: Literal["auto", "ddp"] = "auto"
    num_nodes: PositiveInt = 1
    precision: Literal["auto", Precision] = "auto"
    max_epochs: Annotated[PositiveInt | Endless, OrAuto()] = AUTO
    gradient_clip_val: PositiveFloat | None = 1.0
    accumulate_grad_batches: PositiveInt = 1
    limit_train_batches: BatchLimit = 1.0
    limit_val_batches: BatchLimit = 1.0
    limit_test_batches: BatchLimit = 1.0
    log_every_n_steps: PositiveInt = 20
    enable_progress_bar: bool = True
    # Passed to the Trainer as they are; the defaults are Lightning's but where the YAML says why.
    fast_dev_run: bool | PositiveInt = False
    min_epochs: PositiveInt | None = None
    max_steps: PositiveInt | Endless = -1
    min_steps: PositiveInt | None = None
    max_time: Duration = None
    overfit_batches: OverfitBatches = 0.0
    val_check_interval: BatchLimit = 1.0
    check_val_every_n_epoch: PositiveInt = 1
    num_sanity_val_steps: Annotated[int, Field(ge=-1)] = 0
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    inference_mode: bool = True
    profiler: Literal["simple", "advanced", "pytorch"] | Target | None = None
    detect_anomaly: bool = False
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: NonNegativeInt = 0
    enable_model_summary: bool = False
    # The project's own.
    monitor: str = AUTO
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    patience: Annotated[PositiveInt | None, OrAuto()] = AUTO
    calibrate: bool = True
    gradient_flow: MeasureInterval = None
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    max_rollbacks: PositiveInt = 3
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    freeze_pretrained_epochs: NonNegativeInt = 0
    checkpoint_every_n_steps: PositiveInt | None = None
    checkpoint_every_n_minutes: PositiveFloat | None = 5.0

    @model_validator(mode="before")
    @classmethod
    def _known(cls, options: Any) -> Any:
        for name in options if isinstance(options, Mapping) else ():
            if error := reserved_option_error(f"trainer.{name}"):
                raise ValueError(error)
            if name not in cls.model_fields:
                message = f"trainer.{name}: no such option"
                raise ValueError(unknown_choice_message(message, str(name), [*cls.model_fields]))
        return options

    @property
    def monitored_mode(self) -> MetricMode:
        """Whether a smaller or a larger `monitor` is better, once that is not `auto`."""
        return metric_mode(self.monitor, self.monitor_mode)


class TrialConfig(StrictConfig):
    """The trial of a search that a run is; see `trial` in conf/train.yaml."""

    number: NonNegativeInt | None = None
    study: Text | None = None
    storage: Text | None = None

    @model_validator(mode="after")
    def _study_is_named(self) -> Self:
        if self.number is not None and (self.study is None or self.storage is None):
            raise ValueError("trial.number: needs trial.study and trial.storage")
        return self


class PathsConfig(StrictConfig):
    """Where a run reads and writes; see conf/paths/default.yaml."""

    data_dir: FilePath = "data"
    cache_dir: FilePath = "data/cache"
    log_dir: FilePath = "runs"


class RunConfig(StrictConfig):
    """The options of one run."""

    seed: Annotated[NonNegativeInt, Field(lt=2**32)] = 1
    name: Text | None = None
    tags: tuple[Text, ...] = ()
    train: bool = True
    test: bool = True
    ckpt_path: FilePath | None = None
    plugins: tuple[Text, ...] = ()
    objective: ObjectiveConfig = ClassificationConfig()
    model: ModelOptions
    data: DataOptions
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    callbacks: Targets = Field(default_factory=dict)
    metrics: Targets = Field(default_factory=dict)
    baseline: Literal["auto", "tfidf", "nbsvm", "none"] = "auto"
    plots: bool = True
    paths: PathsConfig = PathsConfig()
    experiment: Text | None = None
    sweep: SweepName | None = None
    report_dir: FilePath | None = None
    max_retries: NonNegativeInt = 0
    resume: Literal["auto", "never"] = "auto"
    trial: TrialConfig = TrialConfig()
    reproduce: FilePath | None = None

    @model_validator(mode="before")
    @classmethod
    def _training_texts_are_named(cls, options: Any) -> Any:
        data = options.get("data", {}) if isinstance(options, dict) else {}
        if isinstance(data, dict) and data.get("source") == "files" and not data.get("train_path"):
            raise ValueError(
                "data.train_path is not set; give data.train_path=<file or folder of texts>"
            )
        return options

    @model_validator(mode="before")
    @classmethod
    def _logger_is_chosen(cls, options: Any) -> Any:
        if isinstance(options, dict) and "logger" not in options:  # ~logger
            raise ValueError("logger: no value given; to log nowhere, give logger=none")
        return options

    @property
    def is_language_model(self) -> bool:
        """Whether a language model is trained, which reads no labels."""
        return self.objective.name == LANGUAGE_MODEL

    @property
    def known_monitor(self) -> str | None:
        """The metric that selects an epoch; None: the run chooses it by its texts."""
        if self.trainer.monitor != AUTO:
            return self.trainer.monitor
        if self.is_language_model:
            return "val/loss"
        return None if self.data.fits_size else "val/accuracy"

    @model_validator(mode="after")
    def _unlabelled_is_read(self) -> Self:
        if self.data.unlabelled is None or self.loss.needs_no_labels:
            return self
        *names, last = (f"loss.{name}" for name in label_free_losses())
        losses = f"a weight above 0 of {', '.join(names)} or {last}"
        has_other_use = self.data.vectors == SKIPGRAM or self.data.teacher is not None
        if not self.is_language_model and not has_other_use:
            raise ValueError(
                f"data.unlabelled: needs data.vectors={SKIPGRAM}, data.teacher=<run>, "
                f"objective={LANGUAGE_MODEL}, or {losses}"
            )
        if self.data.unlabelled_batch_size is not None:
            raise ValueError(f"data.unlabelled_batch_size: needs {losses}")
        return self

    @model_validator(mode="after")
    def _labels_are_read(self) -> Self:
        if not self.is_language_model:
            return self
        for option, is_set in (
            ("data.teacher", self.data.teacher is not None),
            ("metrics", any(self.metrics.values())),
            ("loss", not self.loss.is_cross_entropy),
            ("trainer.gradient_flow", self.trainer.gradient_flow is not None),
            ("trainer.label_smoothing", self.trainer.label_smoothing > 0),
            ("baseline", self.baseline in ("tfidf", "nbsvm")),
        ):
            if is_set:
                raise ValueError(f"{option}: is for classifiers, not for objective=language_model")
        return self

    @model_validator(mode="after")
    def _something_is_pretrained(self) -> Self:
        epochs = self.trainer.freeze_pretrained_epochs
        if epochs and self.model.init_from is None and self.data.vectors is None:
            raise ValueError(
                f"trainer.freeze_pretrained_epochs={epochs}: needs model.init_from or data.vectors"
            )
        return self

    @model_validator(mode="after")
    def _vectors_have_one_origin(self) -> Self:
        if self.model.init_from is not None and self.data.vectors is not None:
            raise ValueError(
                f"data.vectors={self.data.vectors} model.init_from={self.model.init_from}: both "
                "say what words start from; give one of them"
            )
        return self

    @model_validator(mode="after")
    def _average_sees_all_weights(self) -> Self:
        if self.trainer.ema_decay is not None and self.optimizer.sparse_embedding is True:
            raise ValueError(
                f"optimizer.sparse_embedding=true trainer.ema_decay={self.trainer.ema_decay}: the "
                "average needs every row of the embedding at every step; give "
                "optimizer.sparse_embedding=auto or false"
            )
        return self

    @model_validator(mode="after")
    def _tags_fit_wandb(self) -> Self:
        for tag in self.tags if self.logger.name == "wandb" else ():
            if not 0 < len(tag) <= 64:
                raise ValueError(f"tags: W&B takes tags of 1 to 64 characters, not {tag!r}")
        return self

    @model_validator(mode="after")
    def _monitor_is_logged(self) -> Self:
        monitor = self.trainer.monitor
        built_in = {name for names in METRICS_OF_TASK.values() for name in names}
        choices = [AUTO, *built_in, *(f"val/{name}" for name in self.metrics)]
        if monitor not in choices:
            message = f"trainer.monitor={monitor}: impossible value"
            raise ValueError(unknown_choice_message(message, monitor, choices))
        return self

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        if not self.train and not self.test:
            raise ValueError("train=false test=false: nothing to do. Set one of them to true")
        if not self.train and self.ckpt_path is None:
            raise ValueError("train=false: name the checkpoint to test, ckpt_path=<file>")
        return self


def check_monitor(config: RunConfig, task: str) -> None:
    """Raise a ConfigError if the metric that selects an epoch is not one of texts of `task`."""
    monitor = config.trainer.monitor
    if config.is_language_model:
        task = LANGUAGE_MODEL
    choices = [*METRICS_OF_TASK[task], *(f"val/{name}" for name in config.metrics)]
    if monitor not in choices:
        of = {
            MULTICLASS: "texts with one label each",
            MULTILABEL: "texts with any number of labels each",
            LANGUAGE_MODEL: "a language model",
        }
        message = f"trainer.monitor={monitor}: is no metric of {of[task]}"
        raise ConfigError(unknown_choice_message(message, monitor, choices))


def parse_run_config(options: Mapping[str, Any]) -> RunConfig:
    """Return `options`, composed from conf/train.yaml, as a checked RunConfig.

    The modules that `plugins` names are imported first: they register what other options name.
    Hydra asks for a run's folder, for its lock and for the run itself at different moments; the
    same options are checked once.

    Raises:
        ConfigError: an option is unknown or impossible; one line for each.
    """
    return _parse(json.dumps(options, sort_keys=False, default=str))


@lru_cache(maxsize=64)
def _parse(options: str) -> RunConfig:
    plain = json.loads(options)
    load_plugins(plain.get("plugins") or ())
    return validate(RunConfig, plain)


class _Sweep(StrictConfig):
    sweep: SweepName | None


def check_sweep_name(name: Any) -> None:
    """Raise a ConfigError unless `sweep=<name>` can name a folder under runs/."""
    validate(_Sweep, {"sweep": name})
