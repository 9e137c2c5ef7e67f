"""Training losses beside the cross-entropy that are a mean over texts, and `register_loss`.

A loss is a function of texts, of the logits of their passes, and of the options of the group
`loss`. `@register_loss("focal")` makes its weight the option `loss.focal`. mixed_loss.py adds the
losses up; it also computes the adversarial loss, which shares a gradient with the cross-entropy.

Importing this module does not import torch: options are checked before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rnn_lab.errors import ConfigError
from rnn_lab.models.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from rnn_lab.models.config import LossConfig
    from rnn_lab.models.perturbation import EmbeddedTexts

    LossFunction = Callable[[EmbeddedTexts, list[Tensor], LossConfig], Tensor]

# Names of losses and options of the group that have no entry in the registry.
_TAKEN = ("cross_entropy", "adversarial", "epsilon")


class Loss(NamedTuple):
    """What `register_loss` was given."""

    function: LossFunction
    needs_labels: bool
    passes: int


def register_loss(
    name: str, *, needs_labels: bool = True, passes: int = 1
) -> Callable[[LossFunction], LossFunction]:
    """Register the decorated function as the loss of weight `loss.<name>`.

    It is called as loss(texts, passes, config) and returns the loss of each text, [batch]. `texts`
    are an `EmbeddedTexts`, and `config` is the LossConfig.

    Args:
        name: of the option, and of the metric train/loss_<name>.
        needs_labels: whether it reads `texts.labels`. If not, it is also a mean over the texts of
            data.unlabelled, whose labels are None.
        passes: how many passes it reads: the length of its list of logits [batch, num_classes].
            Each pass draws its own dropout. Losses share passes, and the first is also that of the
            cross-entropy.

    Raises:
        ConfigError: another loss or an option has that name, `passes` is not a number from 0 up,
            or the function does not take three arguments.
    """
    LOSSES.check_name(name)
    if name in _TAKEN:
        raise ConfigError(f"loss {name}: is built in; choose another name")
    if not isinstance(passes, int) or passes < 0:
        raise ConfigError(f"loss {name}: passes={passes} must be an integer from 0 up")

    def register(function: LossFunction) -> LossFunction:
        LOSSES.check_call(name, function, "texts", "passes", "config")
        LOSSES.add(name, Loss(function, needs_labels, passes), function)
        return function

    return register


@register_loss("virtual_adversarial", needs_labels=False, passes=0)
def virtual_adversarial(texts: EmbeddedTexts, passes: list[Tensor], config: LossConfig) -> Tensor:
    """Return KL(p(s) || p(s + r)), with r from `virtual_adversarial_perturbation`."""
    from rnn_lab.models.perturbation import virtual_adversarial_perturbation  # imports torch

    target, moved = virtual_adversarial_perturbation(texts, config.epsilon)
    return texts.task.divergences(target, texts.logits(moved))


@register_loss("entropy", needs_labels=False)
def entropy(texts: EmbeddedTexts, passes: list[Tensor], config: LossConfig) -> Tensor:
    """Return the entropy of the predictions (Grandvalet and Bengio 2005)."""
    return texts.task.entropies(passes[0])


@register_loss("r_drop", needs_labels=False, passes=2)
def r_drop(texts: EmbeddedTexts, passes: list[Tensor], config: LossConfig) -> Tensor:
    """Return (KL(p1 || p2) + KL(p2 || p1)) / 2 of two passes (R-Drop, Liang et al. 2021, eq. 3)."""
    first, second = passes
    divergences = texts.task.divergences
    return (divergences(first, second) + divergences(second, first)) / 2
