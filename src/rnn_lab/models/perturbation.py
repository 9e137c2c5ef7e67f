"""Texts as a classifier in training embeds them, and the moves of adversarial training.

The norm of a move r is over all words and features of a text. Miyato et al. normalize embeddings to
unit variance, so that a network cannot make r small by growing its embeddings. The same here,
without a change of the network: epsilon is in units of the root mean square of the batch's embedded
words.

A batch is embedded once, with the words that word dropout hides, and every pass starts from it;
each pass draws its own dropout. Hidden words and padding have no vector, and are not moved. The
wide path (`ngrams.py`) reads tokens: it is not moved either, but is part of every prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.fast.second_derivatives import once_differentiable
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.tasks import TaskFunctions

# Norm of the step of finite differences, in the units of epsilon: that of the authors' code.
FINITE_DIFFERENCE = 0.1
# All of torch: a pooling of one's own may have any.
_DROPOUTS = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
)


@dataclass(frozen=True)
class EmbeddedTexts:
    """A batch of texts as a classifier in training reads it, for any number of passes."""

    classifier: RecurrentClassifier
    vectors: Tensor  # [batch, time, embedding_dim]
    is_word: Tensor  # bool [batch, time, 1]: neither padding nor hidden by word dropout
    lengths: Tensor  # [batch]
    wide_logits: Tensor | None  # [batch, num_classes], of n-grams
    labels: Tensor | None = None  # [batch], or [batch, num_classes] of 0 and 1; None: unlabelled

    @classmethod
    def embed(
        cls,
        classifier: RecurrentClassifier,
        tokens: Tensor,
        lengths: Tensor,
        labels: Tensor | None = None,
    ) -> EmbeddedTexts:
        """Embed right-padded tokens int64 [batch, time]."""
        read = classifier.hide_words(tokens)
        wide = classifier.ngram_logits(tokens, lengths)
        with torch.autocast(tokens.device.type, enabled=False):  # they are moved by small steps
            vectors = classifier.embed(read)
        if not vectors.requires_grad and torch.is_grad_enabled():  # of a frozen embedding
            vectors.requires_grad_()
        return cls(classifier, vectors, (read != 0)[:, :, None], lengths, wide, labels)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def task(self) -> TaskFunctions:
        """Return the functions of the classifier's task."""
        return self.classifier.task

    def detach(self) -> EmbeddedTexts:
        """Return the same texts without a gradient to the embedding and the wide path."""
        wide = None if self.wide_logits is None else self.wide_logits.detach()
        return replace(self, vectors=self.vectors.detach(), wide_logits=wide)

    def parameters(self) -> list[Tensor]:
        """Return what has a gradient in a pass, beside the vectors: wide logits and weights."""
        modules = self.classifier.embedding, self.classifier.ngrams
        below = {p for module in modules if module is not None for p in module.parameters()}
        found: list[Tensor] = [p for p in self.classifier.parameters() if p not in below]
        if self.wide_logits is not None:
            found.append(self.wide_logits)
        return [one for one in found if one.requires_grad]

    def logits(self, perturbation: Tensor | None = None) -> Tensor:
        """Return the logits [batch, num_classes] of one pass, at least float32.

        Args:
            perturbation: [batch, time, embedding_dim], added to the vectors.
        """
        vectors = self.vectors if perturbation is None else self.vectors + perturbation
        logits = self.classifier.forward_embedded(vectors, self.lengths)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits if self.wide_logits is None else logits + self.wide_logits

    def scaled(self, directions: Tensor, size: float) -> Tensor:
        """Return `directions` [batch, time, embedding_dim] of norm `size` for each text, detached.

        `size` is in units of the root mean square of the words' vectors. Padding and hidden words
        are zero, and so is a text without a direction.
        """
        found = (directions.detach() * self.is_word).flatten(1)  # [batch, time * embedding_dim]
        # By the largest first: a square of a tiny gradient would underflow.
        tiny = torch.finfo(found.dtype).tiny
        largest = torch.linalg.vector_norm(found, torch.inf, dim=1, keepdim=True)
        found = found / largest.clamp(min=tiny)
        norms = found.norm(dim=1, keepdim=True).clamp(min=tiny)
        return (found / norms * (size * self._root_mean_square())).view_as(directions)

    def _root_mean_square(self) -> Tensor:
        numbers = self.is_word.sum().clamp(min=1) * self.vectors.shape[2]
        return torch.linalg.vector_norm(self.vectors.detach() * self.is_word) / numbers.sqrt()


def adversarial_perturbation(
    texts: EmbeddedTexts, loss: Tensor, epsilon: float, *, keep_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Return r = epsilon g / ||g||, where g is the gradient of each text's loss (eq. 3).

    The paper writes -g, of the log-probability of the label.

    Args:
        texts: of a pass.
        loss: of that pass, a sum or mean over texts: a scalar.
        epsilon: norm of r for each text, in units of the words' root mean square.
        keep_graph: whether other losses of that pass are still to be differentiated.

    Returns:
        the loss and r [batch, time, embedding_dim], which has no gradient. Without `keep_graph` the
        gradients of the loss are known: its backward pass is not run again.
    """
    if keep_graph:
        # In float16 the gradients of confident texts would underflow; r has no scale.
        scaled = loss * (len(texts) * 1024)
        (gradient,) = torch.autograd.grad(scaled, texts.vectors, retain_graph=True)
        return loss, texts.scaled(gradient, epsilon)
    inputs = [texts.vectors, *texts.parameters()]
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    known: Tensor = _KnownGradients.apply(loss.detach(), gradients, *inputs)
    return known, texts.scaled(gradients[0], epsilon)


class _KnownGradients(torch.autograd.Function):
    """A loss, a scalar, as a function of `inputs` for which it has these gradients."""

    @staticmethod
    def forward(
        ctx: Any, loss: Tensor, gradients: Sequence[Tensor | None], *inputs: Tensor
    ) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @once_differentiable("take adversarial_perturbation with keep_graph=True")
    def backward(ctx: Any, d_loss: Tensor) -> Any:
        scaled = (None if one is None else d_loss * one for one in ctx.gradients)
        return None, None, *scaled


def virtual_adversarial_perturbation(texts: EmbeddedTexts, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the logits of a pass without dropout, and the r that changes them most (eq. 6).

    KL(p(s) || p(s + r)) is 0 at r = 0, where it is least: near 0 it is r^T H r / 2, with
    H = J^T F J of the Jacobian J of the logits and the Fisher information F of p. r is the
    dominant eigenvector of H, with a random sign. Of two classes, F has rank one, and r is the
    gradient of their logits' difference. Of more, one power iteration from a random d, by finite
    differences, finds it: the gradient at a small step along d is H d. That is computed in float32
    also under autocast, whose rounding is larger than the step.

    Both distributions are without dropout. With two masks the gradient at r = 0 would be that of
    the masks' difference, far larger than H d; with one, r would be that of a network which no
    other pass has.

    Args:
        texts: the batch.
        epsilon: norm of r for each text, in units of the words' root mean square.

    Returns:
        logits [batch, num_classes] and r [batch, time, embedding_dim], both without a gradient.
    """
    fixed = texts.detach()
    with without_dropout(texts.classifier), _frozen(texts.classifier):
        if not texts.task.is_multilabel and texts.classifier.linear.out_features == 2:
            vectors = fixed.vectors.requires_grad_()
            target = fixed.logits()
            log_odds = target[:, 1] - target[:, 0]
            signs = torch.randint(0, 2, log_odds.shape, device=log_odds.device) * 2 - 1
            (gradient,) = torch.autograd.grad((signs * log_odds).sum(), vectors)
            return target.detach(), texts.scaled(gradient, epsilon)
        with torch.autocast(fixed.vectors.device.type, enabled=False):
            with torch.no_grad():
                target = fixed.logits()
            step = fixed.scaled(torch.randn_like(fixed.vectors), FINITE_DIFFERENCE)
            divergences = texts.task.divergences(target, fixed.logits(step.requires_grad_()))
            (gradient,) = torch.autograd.grad(divergences.sum(), step)
    return target, texts.scaled(gradient, epsilon)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Let the parameters of `model` need no gradient: half of a backward pass is theirs."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Turn every dropout of `model` off, but not its training mode: cuDNN's gradient needs that."""
    names = {
        module: "dropout" if isinstance(module, RecurrentLayer) else "p"
        for module in model.modules()
        if isinstance(module, (RecurrentLayer, *_DROPOUTS))
    }
    before = {module: getattr(module, name) for module, name in names.items()}
    try:
        for module, name in names.items():
            setattr(module, name, 0.0)
        yield
    finally:
        for module, name in names.items():
            setattr(module, name, before[module])
