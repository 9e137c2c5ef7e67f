"""The options of hydra/sweeper=optuna."""

from typing import Annotated, Any, Literal, Self

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from rnn_lab.errors import ConfigError
from rnn_lab.validation import FilePath, StrictConfig, Text, validate

Direction = Literal["maximize", "minimize"]


class SamplerOptions(StrictConfig):
    """The sampler: which values are tried next."""

    name: Literal["tpe", "gp", "random", "grid"] = "tpe"
    seed: NonNegativeInt | None = 1
    n_startup_trials: NonNegativeInt = 10


class PrunerOptions(StrictConfig):
    """The pruner: which trials are stopped early."""

    name: Literal["median", "hyperband", "none"] = "median"
    n_startup_trials: NonNegativeInt = 5
    n_warmup_epochs: PositiveInt = 1
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class SearchOptions(StrictConfig):
    """One search; see conf/hydra/sweeper/optuna.yaml."""

    params: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    n_trials: PositiveInt = 30
    n_jobs: PositiveInt = 1
    directions: dict[str, Direction] | None = None
    sampler: SamplerOptions = SamplerOptions()
    pruner: PrunerOptions = PrunerOptions()
    study_name: Text | None = None
    storage: FilePath | None = None
    worker_timeout: PositiveInt = 120

    @field_validator("directions")
    @classmethod
    def _validation_selects(cls, directions: dict[str, Direction] | None) -> Any:
        if directions is not None and not directions:
            raise ValueError("name a metric, or null for trainer.monitor")
        if read := [metric for metric in directions or {} if metric.startswith("test/")]:
            raise ValueError(f"{read[0]}: the test split selects nothing. Choose a val/ metric")
        return directions

    @model_validator(mode="after")
    def _pruner_has_a_metric(self) -> Self:
        if self.directions is None or self.pruner.name == "none":
            return self
        if len(self.directions) > 1 or not next(iter(self.directions)).startswith("val/"):
            raise ValueError(
                f"pruner.name={self.pruner.name}: needs one val/ metric, the directions are of "
                f"{', '.join(self.directions)}; add hydra.sweeper.pruner.name=none"
            )
        return self


def search_options(sweeper: DictConfig) -> SearchOptions:
    """Check the `hydra.sweeper` of a composed config.

    Raises:
        ConfigError: an option is unknown or impossible; one line for each.
    """
    options: Any = OmegaConf.to_container(sweeper, resolve=True)
    options.pop("_target_", None)
    try:
        return validate(SearchOptions, options)
    except ConfigError as error:
        lines = str(error).splitlines()
        raise ConfigError("\n".join(f"hydra.sweeper.{line}" for line in lines)) from None
