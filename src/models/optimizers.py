"""The optimizer, and the learning rate over the steps of a run."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from src.models.config import OptimizerConfig, SchedulerConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """torch.optim's optimizer of that name, with weight decay on weight matrices only.

    Biases only shift, and have nothing to gain from being small. A row of an embedding is looked
    up, not multiplied with: decay would shrink it at every step, but the gradient only renews it
    when its token occurs, so that rare words would fade.
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
    optimizer: torch.optim.Optimizer
    # `fused` is one pass over memory: most of a step is the embedding, and torch's default takes
    # ten times as long over it on a CPU. torch 2.3, beside torchtext, has it on GPUs only.
    fused = True if torch.__version__ >= "2.4" else None
    if config.name == "sgd":
        optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    else:
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=config.lr, fused=fused)
    # A fused optimizer offers to undo float16's loss scaling inside its step. That comes after the
    # clipping of gradients, so Lightning refuses to clip. Without the offer it is undone before.
    optimizer._step_supports_amp_scaling = False
    return optimizer


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
    warmup = config.warmup_fraction
    if progress < warmup:
        rise = progress / warmup
        return _half_cosine(1 / 25, 1.0, rise) if config.name == "one_cycle" else rise
    if config.name == "constant":
        return 1.0
    fall = (progress - warmup) / (1 - warmup)
    return _half_cosine(1.0, 4e-7 if config.name == "one_cycle" else 0.0, fall)


def _half_cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
