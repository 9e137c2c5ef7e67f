"""The `model`, `optimizer` and `scheduler` options: what those groups of conf may hold."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from rnn_lab.validation import StrictConfig

Probability = Annotated[float, Field(ge=0, lt=1)]


class ModelConfig(StrictConfig):
    """Embedding, dropout, recurrent layers, pooling, linear layer."""

    name: Literal["rnn", "lstm", "gru"]
    embedding_dim: PositiveInt = 128
    hidden_size: PositiveInt = 128
    num_layers: PositiveInt = 1
    bidirectional: bool = False
    dropout: Probability = 0.5
    word_dropout: Probability = 0.1
    pooling: Literal["last", "mean", "max"] = "last"
    forget_bias: float | None = None
    reset: Literal["before", "after"] | None = None

    @model_validator(mode="after")
    def _gates_are_there(self) -> Self:
        if self.forget_bias is not None and self.name != "lstm":
            raise ValueError(
                f"model.forget_bias: only model=lstm has a forget gate, not {self.name}"
            )
        if self.reset is not None and self.name != "gru":
            raise ValueError(f"model.reset: only model=gru has a reset gate, not {self.name}")
        return self


class OptimizerConfig(StrictConfig):
    """torch.optim's optimizer of that name; see conf/optimizer/adamw.yaml."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: PositiveFloat = 4e-3
    weight_decay: NonNegativeFloat = 0.01
    momentum: Probability = 0.0
    embedding_gradient: Literal["auto", "dense", "rows"] = "auto"


class SchedulerConfig(StrictConfig):
    """The learning rate over the steps of a run."""

    name: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
