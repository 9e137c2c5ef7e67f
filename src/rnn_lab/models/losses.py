"""Training losses beside the cross-entropy, and their sum: a mixed objective.

    L = L_CE + a L_adv + v L_vadv + e L_H + d L_R           (weights: the options of `loss`)

L_CE    the cross-entropy of the labelled texts.
L_adv   adversarial training (Miyato et al. 2017, eq. 2 to 4): their cross-entropy where the
        embedded text s is moved by r = epsilon g / ||g||, with g the gradient of its loss.
L_vadv  virtual adversarial training (the same, eq. 5 and 6): KL(p(s) || p(s + r)), where r is the
        direction in which a small step changes the prediction most.
L_H     the entropy of predictions (Grandvalet and Bengio 2005).
L_R     R-Drop (Liang et al. 2021, eq. 3): (KL(p1 || p2) + KL(p2 || p1)) / 2 of two passes with
        their own dropout; L_CE is then the mean of both. Their alpha is twice this weight.

Sachan et al. (2019) call the sum of the first four a mixed objective. L_vadv, L_H and L_R need no
labels: each is a mean over the labelled and the unlabelled texts of a batch together.

The norm of r is over all words and features of a text. Miyato et al. normalize embeddings to unit
variance, so that a network cannot make r small by growing its embeddings. The same here, without a
change of the network: epsilon is in units of the root mean square of the batch's embedded words.

A batch is embedded once, with the words that word dropout hides, and every pass starts from it;
each pass draws its own dropout. Hidden words and padding have no vector, and are not moved. The
wide path (`ngrams.py`) reads tokens: it is not moved either, but is part of every prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rnn_lab.data.batches import Batch, MixedBatch
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import LossConfig
from rnn_lab.models.fast.autocast import autocast_dtype
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.tasks import Multiclass, TaskFunctions

# Norm of the step of finite differences, in the units of epsilon: that of the authors' code.
FINITE_DIFFERENCE = 0.1
# All of torch: a pooling of one's own may have any.
_DROPOUTS = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
)

# From logits [batch, num_classes] and labels to a mean over texts, a scalar.
SupervisedLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class EmbeddedTexts:
    """A batch of texts as a classifier in training reads it, for any number of passes."""

    classifier: RecurrentClassifier
    vectors: Tensor  # [batch, time, embedding_dim]
    is_word: Tensor  # bool [batch, time, 1]: neither padding nor hidden by word dropout
    lengths: Tensor  # [batch]
    wide_logits: Tensor | None  # [batch, num_classes], of n-grams

    @classmethod
    def embed(
        cls, classifier: RecurrentClassifier, tokens: Tensor, lengths: Tensor
    ) -> EmbeddedTexts:
        """Embed right-padded tokens int64 [batch, time]."""
        read = classifier.hide_words(tokens)
        wide = classifier.ngram_logits(tokens, lengths)
        with torch.autocast(tokens.device.type, enabled=False):  # they are moved by small steps
            vectors = classifier.embed(read)
        if not vectors.requires_grad and torch.is_grad_enabled():  # of a frozen embedding
            vectors.requires_grad_()
        return cls(classifier, vectors, (read != 0)[:, :, None], lengths, wide)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def task(self) -> TaskFunctions:
        """Return the functions of the classifier's task."""
        return self.classifier.task

    def detach(self) -> EmbeddedTexts:
        """Return the same texts without a gradient to the embedding and the wide path."""
        wide = None if self.wide_logits is None else self.wide_logits.detach()
        return EmbeddedTexts(
            self.classifier, self.vectors.detach(), self.is_word, self.lengths, wide
        )

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
    """
    texts = EmbeddedTexts.embed(classifier, batch.tokens, batch.lengths)
    passes = [texts.logits() for _ in range(2 if config.r_drop else 1)]
    losses = [supervised(logits, batch.labels) for logits in passes]
    if config.adversarial:
        # float16's gradients underflow but for the loss scaling of the backward pass.
        is_float16 = autocast_dtype(batch.tokens.device.type) == torch.float16
        keep_graph = bool(config.r_drop or config.entropy) or is_float16
        losses[0], moved = adversarial_perturbation(
            texts, losses[0], config.epsilon, keep_graph=keep_graph
        )
    terms = {"cross_entropy": LossTerm(torch.stack(losses).mean(), len(texts))}
    if config.adversarial:
        loss = supervised(texts.logits(moved), batch.labels)
        terms["adversarial"] = LossTerm(loss, len(texts))
    found = [_label_free_losses(texts, passes, config)]
    if isinstance(batch, MixedBatch) and config.needs_no_labels:
        others = EmbeddedTexts.embed(classifier, *batch.unlabelled)
        count = 2 if config.r_drop else 1 if config.entropy else 0
        others_passes = [others.logits() for _ in range(count)]
        found.append(_label_free_losses(others, others_passes, config))
    for name in found[0]:
        of_texts = torch.cat([part[name] for part in found])  # [texts]
        terms[name] = LossTerm(of_texts.mean(), len(of_texts))
    weights = {"cross_entropy": 1.0} | config.model_dump()
    total = torch.stack([weights[name] * term.mean for name, term in terms.items()]).sum()
    return MixedLoss(total, terms, passes[0])


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
        (gradient,) = torch.autograd.grad(loss, texts.vectors, retain_graph=True)
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
    @once_differentiable
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
        if isinstance(texts.task, Multiclass) and texts.classifier.linear.out_features == 2:
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


def _label_free_losses(
    texts: EmbeddedTexts, passes: list[Tensor], config: LossConfig
) -> dict[str, Tensor]:
    """Return the losses [batch] that need no labels, by name; `passes` are logits of the texts."""
    task, found = texts.task, {}
    if config.virtual_adversarial:
        target, moved = virtual_adversarial_perturbation(texts, config.epsilon)
        found["virtual_adversarial"] = task.divergences(target, texts.logits(moved))
    if config.entropy:
        found["entropy"] = task.entropies(passes[0])
    if config.r_drop:
        first, second = passes
        both = task.divergences(first, second) + task.divergences(second, first)
        found["r_drop"] = both / 2
    return found
