"""Build and check the optimizer of a run, clip its gradient, and build its schedule."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from rnn_lab.errors import ConfigError
from rnn_lab.models.config import OptimizerConfig, SchedulerConfig
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.lazy_optim import SGD, Adam, AdamW, follow_embeddings
from rnn_lab.models.torch_optimizers import optimizer_classes
from rnn_lab.validation import AUTO

# Of a vocabulary. Below, a lazy step saves no time (benchmarks/README.md).
LAZY_MIN_VOCAB = 20_000
_LAZY_PRECISIONS = ("32-true", "64-true", "bf16-mixed")
# Optimizers with lazy updates, and the arguments that these know.
_LAZY_ARGUMENTS = {"adamw": {"betas", "eps"}, "adam": {"betas", "eps"}, "sgd": {"momentum"}}
_OURS: dict[str, Any] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}


def build_optimizer(
    config: OptimizerConfig, model: nn.Module, *, lazy: bool = False
) -> torch.optim.Optimizer:
    """Build an optimizer of torch.optim, with weight decay on weight matrices only.

    Biases only shift, and have nothing to gain from being small. A row of an embedding would shrink
    at every step, but the gradient only renews it when its token occurs: rare words would fade.
    Learning rates are those of `learning_rate_shares`. With `lazy` the gradient of each `Embedding`
    is sparse, and a step moves only its rows (`lazy_rows.py`).

    Raises:
        ValueError: `lazy` with an optimizer that has no lazy updates.
    """
    groups = _parameter_groups(config, model)
    arguments: dict[str, Any] = {"lr": config.lr} | config.arguments
    ours = config.name in _OURS
    if lazy and not ours:
        raise ValueError(f"optimizer {config.name} has no lazy updates")
    others = config.arguments.get("foreach") or config.arguments.get("differentiable")
    if ours and not others and torch.__version__ >= "2.4":
        # One pass over memory: most of a step is the embedding, and torch's default takes ten
        # times as long over it on a CPU. torch 2.3, beside torchtext, has it on GPUs only.
        arguments = {"fused": True} | arguments
    optimizer: Any = (_OURS if ours else optimizer_classes())[config.name](groups, **arguments)
    follow_embeddings(optimizer, model, lazy=lazy)
    if ours:
        # A fused optimizer offers to undo float16's loss scaling inside its step. That comes after
        # the clipping of gradients, so Lightning refuses to clip. Without the offer it is before.
        optimizer._step_supports_amp_scaling = False
    return optimizer


def learning_rate_shares(config: OptimizerConfig, model: nn.Module) -> dict[Tensor, float]:
    """Return the share of the learning rate that each parameter of `model` has.

    With a `layer_lr_decay` below 1, each layer has that share of the rate of the layer above it
    (Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section
    3.2): the recurrent layers from the last to the first, then the embedding. All else is above.
    Embeddings have a share of `vectors_lr_factor` (auto: 1) besides.
    """
    depths: dict[Tensor, int] = {}
    for layer in (m for m in model.modules() if isinstance(m, RecurrentLayer)):
        for index in range(layer.num_layers * layer.directions):
            depth = layer.num_layers - index // layer.directions
            depths |= dict.fromkeys(layer.weights(index).values(), depth)
    below = max(depths.values(), default=0) + 1
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    depths |= dict.fromkeys(embeddings, below)
    factor = 1.0 if config.vectors_lr_factor == AUTO else float(config.vectors_lr_factor)
    return {
        p: config.layer_lr_decay ** depths.get(p, 0) * (factor if p in embeddings else 1.0)
        for p in model.parameters()
    }


def _parameter_groups(config: OptimizerConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Return torch's parameter groups: one for each weight decay and learning rate."""
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    shares = learning_rate_shares(config, model)
    # First those of the learning rate itself, which loggers record.
    groups: dict[tuple[bool, float], list[Tensor]] = {(True, 1.0): [], (False, 1.0): []}
    for parameter, share in shares.items():
        decays = parameter.dim() > 1 and parameter not in embeddings
        groups.setdefault((decays, share), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr": share * config.lr,
        }
        for (decays, share), parameters in groups.items()
    ]


def use_lazy_embedding(
    config: OptimizerConfig,
    vocab_size: int,
    *,
    device_type: str,
    precision: str,
    needs_all_rows: bool = False,
) -> bool:
    """Return whether a step moves only those rows of the embedding that the batch has.

    With `sparse_embedding=auto` where it is faster: on a CPU, from a vocabulary of LAZY_MIN_VOCAB
    on. A GPU moves all rows in less time than it takes to find some, and float16's loss scaling
    supports no sparse gradients. `needs_all_rows` says that something else in a run does not.

    Raises:
        ConfigError: `sparse_embedding=true` where that is impossible.
    """
    if config.sparse_embedding is False:
        return False
    possible = device_type == "cpu" and precision in _LAZY_PRECISIONS and not needs_all_rows
    if config.sparse_embedding is True:
        if not _has_lazy_updates(config):
            raise ConfigError(
                f"optimizer.sparse_embedding=true: not with optimizer={config.name} and its "
                "arguments. Choose from: adamw and adam (betas, eps), sgd (momentum)"
            )
        if not possible:
            raise ConfigError(
                "optimizer.sparse_embedding=true: only on a CPU without trainer.strategy=ddp, with "
                f"trainer.precision={', '.join(_LAZY_PRECISIONS)}, and without a callback that "
                "averages or prunes weights. Choose from: auto, false"
            )
        return True
    return possible and _has_lazy_updates(config) and vocab_size >= LAZY_MIN_VOCAB


def _has_lazy_updates(config: OptimizerConfig) -> bool:
    arguments = config.arguments
    known = _LAZY_ARGUMENTS.get(config.name)
    if known is None or not arguments.keys() <= known:
        return False
    # What a row of Adam misses is a finite sum only then (lazy_rows.py).
    beta1, beta2 = arguments.get("betas", (0.9, 0.999))
    return bool(beta1 < math.sqrt(beta2))


def clip_gradient(parameters: list[Tensor], limit: float | None, algorithm: str | None) -> Tensor:
    """Clip the gradient by its norm, or by value with algorithm="value"; return its former norm.

    Without a `limit`, None or 0, it stays as it is.
    """
    if limit and algorithm != "value":
        return nn.utils.clip_grad_norm_(parameters, limit)
    norms = [p.grad.norm() for p in parameters if p.grad is not None]
    if limit:
        nn.utils.clip_grad_value_(parameters, limit)
    return torch.stack(norms).norm()


def build_scheduler(
    config: SchedulerConfig,
    optimizer: torch.optim.Optimizer,
    total_steps: int | Callable[[], float],
) -> LambdaLR:
    """Build the schedule, to be stepped after every optimizer step.

    `total_steps` may be a function, called at each step, for a length that is only known once
    training has begun; until then it returns infinity.
    """

    def factor(step: int) -> float:
        steps = total_steps() if callable(total_steps) else total_steps
        return config.factor(min(step / steps, 1.0))

    return LambdaLR(optimizer, factor)
