"""The training loss: the sum of the cross-entropy and the losses of the group `loss`.

    L = L_CE + a L_adv + v L_vadv + e L_H + d L_R + ...     (weights: the options of `loss`)

L_CE    the cross-entropy of the labelled texts.
L_adv   adversarial training (Miyato et al. 2017, eq. 2 to 4): their cross-entropy where the
        embedded text s is moved by r = epsilon g / ||g||, with g the gradient of its loss.
L_vadv  virtual adversarial training (the same, eq. 5 and 6): KL(p(s) || p(s + r)), where r is the
        direction in which a small step changes the prediction most.
L_H     the entropy of predictions (Grandvalet and Bengio 2005).
L_R     R-Drop (Liang et al. 2021, eq. 3): (KL(p1 || p2) + KL(p2 || p1)) / 2 of two passes with
        their own dropout; L_CE is then the mean of both. Their alpha is twice this weight.
...     losses of a user's module, see `register_loss`.

Sachan et al. (2019) call the sum of the first four a mixed objective. L_vadv, L_H and L_R need no
labels: each is a mean over the labelled and the unlabelled texts of a batch together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rnn_lab.data.batches import Batch, MixedBatch
from rnn_lab.errors import ConfigError
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import LossConfig
from rnn_lab.models.fast.autocast import autocast_dtype
from rnn_lab.models.perturbation import EmbeddedTexts, adversarial_perturbation
from rnn_lab.models.registry import LOSSES

# From logits [batch, num_classes] and labels to a mean over texts, a scalar.
SupervisedLoss = Callable[[Tensor, Tensor], Tensor]


class LossTerm(NamedTuple):
    """One of the losses of a batch."""

    mean: Tensor  # over texts, a scalar
    texts: int


class MixedLoss(NamedTuple):
    """The losses of a batch, and their weighted sum."""

    total: Tensor  # a scalar
    terms: dict[str, LossTerm]  # by name, without weights: cross_entropy, and those of LossConfig
    logits: Tensor  # [batch, num_classes], of the first pass of the labelled texts


def mixed_loss(
    classifier: RecurrentClassifier,
    batch: Batch | MixedBatch,
    config: LossConfig,
    supervised: SupervisedLoss,
) -> MixedLoss:
    """Return the losses of a batch of labelled texts and, where it has any, unlabelled ones.

    Args:
        classifier: in training mode.
        batch: of texts.
        config: the weight of each loss; one of weight 0 is not computed.
        supervised: the loss of labelled texts, a mean over them, perhaps weighted and smoothed.

    Raises:
        ConfigError: a loss of a user's module is not real numbers [batch], or has no gradient.
    """
    weights = {"cross_entropy": 1.0} | config.weights
    names = [name for name in weights if name in LOSSES]  # not those of the labels themselves
    num_passes = _num_passes(names)
    texts = EmbeddedTexts.embed(classifier, batch.tokens, batch.lengths, batch.labels)
    passes = [texts.logits() for _ in range(max(1, num_passes))]
    losses = [supervised(logits, batch.labels) for logits in passes]
    if config.adversarial:
        # float16's gradients underflow but for the loss scaling of the backward pass.
        is_float16 = autocast_dtype(batch.tokens.device.type) == torch.float16
        losses[0], moved = adversarial_perturbation(
            texts, losses[0], config.epsilon, keep_graph=num_passes > 0 or is_float16
        )
    terms = {"cross_entropy": LossTerm(torch.stack(losses).mean(), len(texts))}
    if config.adversarial:
        loss = supervised(texts.logits(moved), batch.labels)
        terms["adversarial"] = LossTerm(loss, len(texts))
    found = {name: [_compute(name, texts, passes, config)] for name in names}
    label_free = [name for name in names if not LOSSES[name].needs_labels]
    if isinstance(batch, MixedBatch) and label_free:
        others = EmbeddedTexts.embed(classifier, *batch.unlabelled)
        others_passes = [others.logits() for _ in range(_num_passes(label_free))]
        for name in label_free:
            found[name].append(_compute(name, others, others_passes, config))
    for name, parts in found.items():
        of_texts = torch.cat(parts)  # [texts]
        terms[name] = LossTerm(of_texts.mean(), len(of_texts))
    total = torch.stack([weights[name] * term.mean for name, term in terms.items()]).sum()
    return MixedLoss(total, terms, passes[0])


def _num_passes(names: list[str]) -> int:
    return max((LOSSES[name].passes for name in names), default=0)


def _compute(name: str, texts: EmbeddedTexts, passes: list[Tensor], config: LossConfig) -> Tensor:
    """Return the loss `name` of each text, [batch]."""
    loss = LOSSES[name]
    found = loss.function(texts, passes[: loss.passes], config)
    shape = list(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
    if shape != [len(texts)]:
        raise ConfigError(f"loss.{name}: returned {shape}, expected {[len(texts)]}: [batch]")
    if not found.is_floating_point():
        raise ConfigError(f"loss.{name}: returned {found.dtype}, expected real numbers")
    if torch.is_grad_enabled() and not found.requires_grad:
        raise ConfigError(f"loss.{name}: has no gradient; compute it from the logits of `passes`")
    return found
