"""How much each token moved the verdict: integrated gradients, by Captum."""

from typing import NamedTuple

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from rnn_lab.data.vocabulary import PAD_ID
from rnn_lab.models.classifier import RecurrentClassifier

TOLERANCE = 0.01  # of the logit difference that the attributions must sum to
FEWEST_STEPS, MOST_STEPS = 64, 1024
TOKENS_AT_ONCE = 25_600  # of all the texts on the way from baseline to text that are held at once


class Attributions(NamedTuple):
    """The share of every token in a logit difference, and the two ends that they bridge."""

    tokens: np.ndarray  # float64 [time]
    difference: float  # of the logits, for the text
    baseline: float  # the same for the baseline
    steps: int  # at which the gradient was taken


def integrated_gradients(
    model: RecurrentClassifier, tokens: np.ndarray, target: int
) -> Attributions:
    """Attribute to `tokens`, int64 [time], the logit of class `target` against the other classes.

    The logit difference f is that of `target` less the mean of the others' logits. Gradients of f
    with respect to the embedded tokens are integrated on the straight line from the baseline, as
    many tokens of padding, by Gauss-Legendre quadrature (Sundararajan et al. 2017, equation 1).
    By completeness (proposition 1) the attributions sum to f(text) - f(baseline): the number of
    steps is doubled until they do so within TOLERANCE of it, or is MOST_STEPS.

    `model` is on the CPU, in evaluation mode.
    """
    text = torch.from_numpy(tokens)[None]  # [1, time]
    lengths = torch.tensor([len(tokens)])
    contrast = torch.full([model.linear.out_features], -1 / (model.linear.out_features - 1))
    contrast[target] = 1

    def difference(embedded: Tensor, lengths: Tensor) -> Tensor:
        return model.forward_embedded(embedded, lengths) @ contrast  # [batch]

    with torch.no_grad():
        embedded, baseline = model.embed(text), model.embed(torch.full_like(text, PAD_ID))
        at_text, at_baseline = (difference(end, lengths).item() for end in (embedded, baseline))
    method = IntegratedGradients(difference)
    steps = FEWEST_STEPS
    while True:
        shares = method.attribute(
            embedded,
            baseline,
            additional_forward_args=(lengths,),
            n_steps=steps,
            internal_batch_size=max(1, TOKENS_AT_ONCE // len(tokens)),
        )  # [1, time, embedding_dim]
        found = Attributions(shares[0].double().sum(dim=1).numpy(), at_text, at_baseline, steps)
        if steps == MOST_STEPS or _error(found) < TOLERANCE:
            return found
        steps *= 2


def _error(found: Attributions) -> float:
    wanted = found.difference - found.baseline
    gap = abs(found.tokens.sum() - wanted)
    return gap / abs(wanted) if wanted else np.inf
