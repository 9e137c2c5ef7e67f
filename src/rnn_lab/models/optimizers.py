"""The optimizer, and the learning rate over the steps of a run."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from rnn_lab.errors import ConfigError
from rnn_lab.models.config import OptimizerConfig, SchedulerConfig
from rnn_lab.models.lazy_optim import SGD, Adam, AdamW, follow_embeddings

LAZY_MIN_VOCAB = (
    50_000  # of a vocabulary: below, what is saved is lost in a step (benchmarks/README.md)
)
_BY_ROWS = ("32-true", "64-true", "bf16-mixed")  # precisions


def build_optimizer(
    config: OptimizerConfig, model: nn.Module, *, by_rows: bool = False
) -> torch.optim.Optimizer:
    """torch.optim's optimizer of that name, with weight decay on weight matrices only.

    Biases only shift, and have nothing to gain from being small. A row of an embedding is looked
    up, not multiplied with: decay would shrink it at every step, but the gradient only renews it
    when its token occurs, so that rare words would fade.

    With `by_rows` the gradient of each embedding of ours is sparse, and a step moves only its rows:
    see src/rnn_lab/models/lazy_rows.py.
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
    # `fused` is one pass over memory: most of a step is the embedding, and torch's default takes
    # ten times as long over it on a CPU. torch 2.3, beside torchtext, has it on GPUs only.
    fused = True if torch.__version__ >= "2.4" else None
    optimizer: SGD | Adam | AdamW
    if config.name == "sgd":
        optimizer = SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    else:
        kind = AdamW if config.name == "adamw" else Adam
        optimizer = kind(groups, lr=config.lr, fused=fused)
    follow_embeddings(optimizer, model, by_rows=by_rows)
    # A fused optimizer offers to undo float16's loss scaling inside its step. That comes after the
    # clipping of gradients, so Lightning refuses to clip. Without the offer it is undone before.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def use_lazy_embedding(
    config: OptimizerConfig, vocab_size: int, *, device_type: str, processes: int, precision: str
) -> bool:
    """Whether a step moves only those rows of the embedding that the batch has.

    By itself where it is faster: on a CPU, from a vocabulary of LAZY_MIN_VOCAB on. A GPU moves all
    rows in less time than it takes to find some; gradients of several processes are averaged
    dense; and float16's loss scaling knows no sparse ones.

    Raises:
        ConfigError: `embedding_gradient=rows` where that cannot be.
    """
    possible = device_type == "cpu" and processes == 1 and precision in _BY_ROWS
    if config.embedding_gradient == "rows":
        if not possible:
            raise ConfigError(
                "optimizer.embedding_gradient=rows: only in one process on a processor, with "
                "trainer.precision=32-true or bf16-mixed. Choose from: auto, dense"
            )
        return True
    return possible and config.embedding_gradient == "auto" and vocab_size >= LAZY_MIN_VOCAB


def build_scheduler(
    config: SchedulerConfig,
    optimizer: torch.optim.Optimizer,
    total_steps: int | Callable[[], float],
) -> LambdaLR:
    """The schedule of that name, to be stepped after every optimizer step.

    `total_steps` may be a function, asked anew at each step, for a length that is only known once
    training has begun; until then it says infinity.
    """

    def factor(step: int) -> float:
        steps = total_steps() if callable(total_steps) else total_steps
        return learning_rate_factor(config, min(step / steps, 1.0))

    return LambdaLR(optimizer, factor)


def learning_rate_factor(config: SchedulerConfig, progress: float) -> float:
    """The share of the optimizer's lr after `progress`, from 0 to 1, of the run.

    one_cycle: along half cosines from 1/25 up to 1 over the warm-up, then down to 4e-7, with the
    end points of torch's OneCycleLR (Smith and Topin 2018). cosine: in a straight line from 0 up
    to 1, then along a half cosine to 0 (Loshchilov and Hutter 2017, equation 5). constant: in a
    straight line from 0 up to 1, then 1.
    """
    warmup = config.warmup_ratio
    if progress < warmup:
        rise = progress / warmup
        return _half_cosine(1 / 25, 1.0, rise) if config.name == "one_cycle" else rise
    if config.name == "constant":
        return 1.0
    fall = (progress - warmup) / (1 - warmup)
    return _half_cosine(1.0, 4e-7 if config.name == "one_cycle" else 0.0, fall)


def _half_cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
