"""One label a text, or any number of them: activation, loss and decision of the two tasks."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

DEFAULT_THRESHOLD = 0.5


class TaskFunctions(Protocol):
    """What a network of one of the tasks computes from its logits [batch, classes]."""

    is_multilabel: ClassVar[bool]  # whether a text has any number of labels, not one

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class, [batch, classes]."""

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return finite logits of these probabilities, [batch, classes]."""

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each text, [batch]."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss, a scalar."""

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return whether all is right about a text with thresholds of 0.5, bool [batch]."""

    def entropies(self, logits: Tensor) -> Tensor:
        """Return the entropy of each text's prediction in nats, [batch]."""

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Return KL(p || q) in nats, [batch], of the predictions p of `logits`, q of `others`."""


class Multiclass:
    """One label a text: softmax and cross-entropy. Labels are int64 [batch]."""

    is_multilabel: ClassVar[bool] = False

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax; each row sums to 1."""
        return logits.softmax(dim=1)

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return the logarithms, of 0 that of the smallest normal number."""
        return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of each text in nats, [batch]."""
        return F.cross_entropy(logits, labels, reduction="none")

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(logits, labels)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return whether the most probable class is the label, bool [batch]."""
        return logits.argmax(dim=1) == labels

    def entropies(self, logits: Tensor) -> Tensor:
        """Return the entropy of each softmax in nats, [batch]."""
        logs = logits.log_softmax(dim=1)
        return -(logs.exp() * logs).sum(dim=1)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Return KL(p || q) in nats, [batch], of the softmaxes p of `logits`, q of `others`."""
        logs = logits.log_softmax(dim=1)
        return (logs.exp() * (logs - others.log_softmax(dim=1))).sum(dim=1)


class Multilabel:
    """Any number of labels a text, each predicted on its own. Labels are 0 or 1, [batch, classes].

    The loss of a text is the mean over labels of the binary cross-entropy of their sigmoids. So are
    entropy and divergence means over labels, of Bernoulli distributions.
    """

    is_multilabel: ClassVar[bool] = True

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the sigmoid of each logit."""
        return logits.sigmoid()

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return the log-odds, of 0 and 1 those of the numbers beside them."""
        return probabilities.logit(eps=torch.finfo(probabilities.dtype).eps)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean binary cross-entropy over the labels of each text in nats, [batch]."""
        targets = labels.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over texts and labels."""
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return whether exactly the labels of a text are predicted, bool [batch]."""
        return ((logits >= 0) == labels.bool()).all(dim=1)

    def entropies(self, logits: Tensor) -> Tensor:
        """Return the mean entropy of the labels of each text in nats, [batch]."""
        # The cross-entropy of a distribution with itself.
        binary = F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none")
        return binary.mean(dim=1)

    def divergences(self, logits: Tensor, others: Tensor) -> Tensor:
        """Return the mean over labels of KL(p || q) in nats, [batch]."""
        p = logits.sigmoid()
        present = F.logsigmoid(logits) - F.logsigmoid(others)
        absent = F.logsigmoid(-logits) - F.logsigmoid(-others)
        return (p * present + (1 - p) * absent).mean(dim=1)


TASKS: dict[str, TaskFunctions] = {"multiclass": Multiclass(), "multilabel": Multilabel()}


def best_thresholds(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the threshold of each label at which its F1 is highest, float32 [classes].

    A label is predicted where its probability is at least the threshold, the middle between two
    probabilities that occur. Of equal F1, the highest threshold is taken. A label that no text has
    keeps 0.5.

    Args:
        probabilities: float [texts, classes].
        labels: 0 or 1, [texts, classes].
    """
    ranked, order = probabilities.sort(dim=0, descending=True)
    hits = labels.gather(0, order).cumsum(dim=0)  # [texts, classes], of the first 1, 2, ... texts
    accepted = torch.arange(1, len(labels) + 1, device=labels.device)[:, None]
    f1 = 2 * hits / (accepted + hits[-1])
    below = torch.cat([ranked[1:], torch.full_like(ranked[:1], -1.0)])
    f1 = f1.where(ranked > below, -1.0)  # equal probabilities are accepted together
    best = f1.argmax(dim=0, keepdim=True)  # the first of equal ones
    lowest, next_lower = ranked.gather(0, best)[0], below.gather(0, best)[0]
    middle = (lowest + next_lower.clamp(min=0)) / 2
    found = middle.where(middle > next_lower, lowest)  # of two neighbouring floats
    return found.where(hits[-1] > 0, DEFAULT_THRESHOLD).float()
