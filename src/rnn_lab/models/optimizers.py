"""Build the optimizer and the learning-rate schedule of a run."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from rnn_lab.errors import ConfigError
from rnn_lab.models.config import OptimizerConfig, SchedulerConfig
from rnn_lab.models.embedding import Embedding
from rnn_lab.models.lazy_optim import SGD, Adam, AdamW, follow_embeddings
from rnn_lab.models.torch_optimizers import optimizer_classes

# Of a vocabulary. Below, a lazy step saves no time (benchmarks/README.md).
LAZY_MIN_VOCAB = 50_000
_LAZY_PRECISIONS = ("32-true", "64-true", "bf16-mixed")
# Optimizers with lazy updates, and the arguments that these know.
_LAZY_ARGUMENTS = {"adamw": {"betas", "eps"}, "adam": {"betas", "eps"}, "sgd": {"momentum"}}
_OURS: dict[str, Any] = {"adamw": AdamW, "adam": Adam, "sgd": SGD}


def build_optimizer(
    config: OptimizerConfig, model: nn.Module, *, lazy: bool = False
) -> torch.optim.Optimizer:
    """Build an optimizer of torch.optim, with weight decay on weight matrices only.

    Biases only shift, and have nothing to gain from being small. A row of an embedding is looked
    up, not multiplied with: decay would shrink it at every step, but the gradient only renews it
    when its token occurs, so that rare words would fade.

    With `lazy` the gradient of each `Embedding` is sparse, and a step moves only its rows; see
    `lazy_rows.py`.

    >>> build_optimizer(OptimizerConfig(name="nadam", eps=1e-6), nn.Linear(2, 2)).defaults["eps"]
    1e-06

    Raises:
        ValueError: `lazy` with an optimizer that has no lazy updates.
    """
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        matrix = parameter.dim() > 1 and parameter not in embeddings
        (decayed if matrix else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    arguments: dict[str, Any] = {"lr": config.lr} | config.arguments
    if config.name not in _OURS:
        if lazy:
            raise ValueError(f"optimizer {config.name} has no lazy updates")
        for module in model.modules():
            if isinstance(module, Embedding):
                module.flush()
                module.lazy_rows = None
        return optimizer_classes()[config.name](groups, **arguments)
    # `fused` is one pass over memory: most of a step is the embedding, and torch's default takes
    # ten times as long over it on a CPU. torch 2.3, beside torchtext, has it on GPUs only.
    fused = {"fused": True} if torch.__version__ >= "2.4" else {}
    optimizer: SGD | Adam | AdamW = _OURS[config.name](groups, **(fused | arguments))
    follow_embeddings(optimizer, model, lazy=lazy)
    # A fused optimizer offers to undo float16's loss scaling inside its step. That comes after the
    # clipping of gradients, so Lightning refuses to clip. Without the offer it is undone before.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def use_lazy_embedding(
    config: OptimizerConfig, vocab_size: int, *, device_type: str, processes: int, precision: str
) -> bool:
    """Return whether a step moves only those rows of the embedding that the batch has.

    With `sparse_embedding=auto` where it is faster: on a CPU, from a vocabulary of LAZY_MIN_VOCAB
    on. A GPU moves all rows in less time than it takes to find some; gradients of several processes
    are averaged dense; and float16's loss scaling supports no sparse ones.

    Raises:
        ConfigError: `sparse_embedding=true` where that is impossible.
    """
    if config.sparse_embedding is False:
        return False
    possible = device_type == "cpu" and processes == 1 and precision in _LAZY_PRECISIONS
    if config.sparse_embedding is True:
        if not _has_lazy_updates(config):
            raise ConfigError(
                f"optimizer.sparse_embedding=true: not with optimizer={config.name} and its "
                "arguments. Choose from: adamw and adam (betas, eps), sgd (momentum)"
            )
        if not possible:
            raise ConfigError(
                "optimizer.sparse_embedding=true: only in one process on a CPU, with "
                "trainer.precision=32-true or bf16-mixed. Choose from: auto, false"
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
    """Clip the gradient of `parameters` by its norm, or by value with algorithm="value".

    Without a `limit`, None or 0, it stays as it is.

    Returns:
        The norm that the gradient had, a scalar.
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
