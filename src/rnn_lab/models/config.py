"""Options of the groups `objective`, `model`, `loss`, `optimizer` and `scheduler`.

Options that only one cell, optimizer or schedule has are flat, beside the others:
model.forget_bias=3, optimizer.betas=[0.9,0.95]. Importing this module does not import torch.
"""

import contextlib
import inspect
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    model_validator,
)

from rnn_lab.errors import ConfigError
from rnn_lab.models.registry import CELLS, LOSSES, POOLINGS, SCHEDULES
from rnn_lab.validation import (
    AUTO,
    FilePath,
    OrAuto,
    StrictConfig,
    check_arguments,
    unknown_choice_message,
    validate,
)

Probability = Annotated[float, Field(ge=0, lt=1)]
LossWeight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ModelConfig(StrictConfig):
    """Options of a classifier with any cell.

    A cell with options of its own has a subclass, given to `register_cell`; the fields that it adds
    are the arguments of the cell's constructor.
    """

    name: Annotated[str, AfterValidator(CELLS.check)]
    embedding_dim: PositiveInt = 128
    hidden_size: PositiveInt = 128
    num_layers: PositiveInt = 1
    bidirectional: Annotated[bool, OrAuto()] = False
    dropout: Probability = 0.5
    variational_dropout: bool = False
    word_dropout: Probability = 0.1
    pooling: Annotated[str, AfterValidator(POOLINGS.check), OrAuto()] = "last"
    ngrams: Annotated[int, Field(ge=0, le=5), OrAuto()] = 0
    ngram_buckets: Annotated[PositiveInt, OrAuto()] = 2**17
    ngram_weighting: Literal["tfidf", "naive_bayes"] = "tfidf"
    init_from: FilePath | None = None  # read by train.py alone: no network changes that is built

    @property
    def cell_options(self) -> dict[str, Any]:
        """Return the options that only this cell has: arguments of its constructor."""
        own = type(self).model_fields.keys() - ModelConfig.model_fields.keys()
        return {name: getattr(self, name) for name in type(self).model_fields if name in own}


class LSTMConfig(ModelConfig):
    """Options of model=lstm."""

    forget_bias: FiniteFloat | None = None


class GRUConfig(ModelConfig):
    """Options of model=gru."""

    reset_after: bool = True


# By name of the cell. `register_cell` adds those of other cells.
CELL_CONFIGS: dict[str, type[ModelConfig]]
CELL_CONFIGS = {"rnn": ModelConfig, "lstm": LSTMConfig, "gru": GRUConfig}


def _as_config_of_cell(options: Any) -> Any:
    """Validate `options` with the config class of the cell that they name."""
    if not isinstance(options, Mapping):
        return options
    name = options.get("name")
    if not isinstance(name, str) or (name not in CELL_CONFIGS and name not in CELLS):
        of_all = {key: value for key, value in options.items() if key in ModelConfig.model_fields}
        return ModelConfig.model_validate(of_all)  # names what is wrong with the name
    config_class = CELL_CONFIGS[name]
    for option in options.keys() - config_class.model_fields.keys():
        if options[option] is None:
            continue
        list(CELLS)  # imports all cells, which register their options
        cells = [cell for cell, other in CELL_CONFIGS.items() if option in other.model_fields]
        if cells:
            cells_text = ", ".join(f"model={cell}" for cell in sorted(cells))
            raise ValueError(
                f"model.{option}: only {cells_text} has this option, not {name}; choose a cell by "
                f"its file, model={name}, or leave the option out: ~model.{option}"
            )
    # An experiment may set an option of one cell to null, and is composed with every cell.
    known = {key: value for key, value in options.items() if key in config_class.model_fields}
    unknown = {key: value for key, value in options.items() if not _is_unset(key, value)}
    return config_class.model_validate(unknown | known)


def _is_unset(option: str, value: Any) -> bool:
    """Return whether an option of some cell is null."""
    return value is None and any(option in other.model_fields for other in CELL_CONFIGS.values())


# A field of this type takes the options of any registered cell and holds its own config class.
ModelOptions = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(_as_config_of_cell)]


class _Model(StrictConfig):
    model: ModelOptions


def validate_model(options: ModelConfig | Mapping[str, Any]) -> ModelConfig:
    """Return `options` as the config class of the cell that `options["name"]` names.

    Raises:
        ConfigError: an option is unknown or impossible; one line for each.
    """
    return validate(_Model, {"model": options}).model


class _WithArguments(StrictConfig):
    """Fields, and beside them arguments: plain values that a class or function takes by name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the options that are no field here."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _plain_arguments(cls, options: Any) -> Any:
        """Leave out arguments that are null; refuse what is not a number, boolean or list."""
        if not isinstance(options, dict):
            return options
        found = {}
        for name, value in options.items():
            if name not in cls.model_fields:
                if value is None:
                    continue
                values = value if isinstance(value, list | tuple) else [value]
                if not all(isinstance(one, bool | int | float) for one in values):
                    what = "give a number, true, false or a list of numbers"
                    raise ValueError(f"{name}={value}: {what}")
                value = tuple(value) if isinstance(value, list) else value
            found[name] = value
        return found


# The arguments of the default optimizers are known: no torch is needed to check them.
_USUAL_ARGUMENTS: dict[str, set[str]] = {"adamw": set(), "adam": set(), "sgd": {"momentum"}}


def _optimizer_name(name: str) -> str:
    if (lower := name.lower()) in _USUAL_ARGUMENTS:
        return lower
    from rnn_lab.models.torch_optimizers import check_name

    return check_name(name)


class OptimizerConfig(_WithArguments):
    """An optimizer of torch.optim, with its arguments beside the options that all have."""

    name: Annotated[str, AfterValidator(_optimizer_name)] = "adamw"
    lr: PositiveFloat = 4e-3
    weight_decay: NonNegativeFloat = 0.01
    sparse_embedding: Annotated[bool, OrAuto()] = AUTO
    vectors_lr_factor: Annotated[NonNegativeFloat, OrAuto()] = AUTO
    layer_lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the options that are no field here; Adam refuses an integer among its betas."""
        return {
            name: tuple(map(float, value)) if isinstance(value, tuple) else value
            for name, value in super().arguments.items()
        }

    @model_validator(mode="after")
    def _arguments_exist(self) -> Self:
        momentum = self.arguments.get("momentum", 0)
        if isinstance(momentum, bool | tuple) or not 0 <= momentum < 1:
            raise ValueError(f"optimizer.momentum={momentum}: give a number from 0 to below 1")
        usual = _USUAL_ARGUMENTS.get(self.name)
        if usual is None or not self.arguments.keys() <= usual:
            from rnn_lab.models.torch_optimizers import check_optimizer

            check_optimizer(
                self.name,
                self.arguments,
                lr=self.lr,
                weight_decay=self.weight_decay,
                options=type(self).model_fields,
            )
        return self


class LossConfig(StrictConfig):
    """Weights of training losses beside the cross-entropy; see rnn_lab.models.mixed_loss.

    The weight of a loss that a user's module registers is a further option.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, LossWeight]

    adversarial: LossWeight = 0.0
    virtual_adversarial: LossWeight = 0.0
    entropy: LossWeight = 0.0
    r_drop: LossWeight = 0.0
    epsilon: Annotated[PositiveFloat, Field(allow_inf_nan=False)] = 5.0

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights above 0 by name, in the order in which losses are computed."""
        own = dict(sorted(self.__pydantic_extra__.items()))  # in any order they are written
        built_in = self.model_dump(exclude={"epsilon", *own})
        return {name: weight for name, weight in (built_in | own).items() if weight}

    @property
    def is_cross_entropy(self) -> bool:
        """Return whether there is no other loss."""
        return not self.weights

    @property
    def needs_no_labels(self) -> bool:
        """Return whether there is a loss that unlabelled texts have too."""
        return not self.weights.keys().isdisjoint(label_free_losses())

    @model_validator(mode="after")
    def _losses_are_registered(self) -> Self:
        for name in self.__pydantic_extra__:
            if name not in LOSSES:
                choices = {*type(self).model_fields, *LOSSES}
                message = unknown_choice_message(f"loss.{name}: no such option", name, [*choices])
                raise ValueError(f"{message} (a loss of your own: plugins=[<its module>])")
        return self


def label_free_losses() -> list[str]:
    """Return the losses that unlabelled texts have too: this package's first."""
    names = dict.fromkeys((*LossConfig.model_fields, *LOSSES))
    return [name for name in names if name in LOSSES and not LOSSES[name].needs_labels]


class SchedulerConfig(_WithArguments):
    """The learning rate over the steps of a run: a registered schedule, beside it its options."""

    name: Annotated[str, AfterValidator(SCHEDULES.check)] = "one_cycle"
    warmup_ratio: Probability = 0.1

    def factor(self, progress: float) -> float:
        """Return the share of the optimizer's learning rate at `progress`, 0 to 1, of the run.

        Raises:
            ConfigError: the schedule, as of a plugin, returned something else.
        """
        share = SCHEDULES[self.name](progress, self.warmup_ratio, **self.arguments)
        found = None
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # the last is of a tensor
            found = None if isinstance(share, str) else float(share)
        if found is None or not 0 <= found < math.inf:
            kind = type(share).__name__ if found is None else found
            raise ConfigError(
                f"scheduler.name={self.name}: returned {kind}, expected a number from 0 up"
            )
        return found

    @model_validator(mode="after")
    def _arguments_exist(self) -> Self:
        parameters = inspect.signature(SCHEDULES[self.name]).parameters
        options = dict(list(parameters.items())[2:])  # after progress and warmup_ratio
        check_arguments("scheduler", self.name, self.arguments, list(options))
        for name, option in options.items():
            if option.default is option.empty and name not in self.arguments:
                raise ValueError(f"scheduler.{name}: {self.name} needs a value of this option")
        return self


class ClassificationConfig(StrictConfig):
    """Training of a classifier."""

    name: Literal["classification"] = "classification"


class LanguageModelConfig(StrictConfig):
    """Training of a language model; see conf/objective/language_model.yaml."""

    name: Literal["language_model"]
    num_sampled: PositiveInt | None = 1024
    eval_stride: PositiveInt = 1


ObjectiveConfig = Annotated[ClassificationConfig | LanguageModelConfig, Field(discriminator="name")]
