"""The attribution of each token to a prediction: integrated gradients, by Captum."""

from typing import NamedTuple

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from rnn_lab.data.vocabulary import PAD_ID
from rnn_lab.models.classifier import RecurrentClassifier

TOLERANCE = 0.01  # relative error of completeness
MIN_STEPS, MAX_STEPS = 64, 1024
MAX_TOKENS_AT_ONCE = 25_600  # in one batch of points between baseline and text


class Attributions(NamedTuple):
    """The attribution of every token, and the two logit differences that their sum connects."""

    tokens: np.ndarray  # float64 [time]
    difference: float  # of the logits, for the text
    baseline: float  # the same for the baseline
    steps: int  # points at which the gradient was evaluated


def integrated_gradients(
    model: RecurrentClassifier, tokens: np.ndarray, target: int
) -> Attributions:
    """Attribute the logit of class `target` against the other classes to `tokens`, int64 [time].

    The logit difference f is the logit of `target` minus the mean of the others. The gradients of
    f with respect to the embedded tokens are integrated along the straight line from the baseline,
    as many tokens of padding, by Gauss-Legendre quadrature (Sundararajan et al. 2017, equation 1).
    By completeness (proposition 1) the attributions sum to f(text) - f(baseline). The number of
    steps is doubled until they do so within TOLERANCE, or until it is MAX_STEPS.

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
    steps = MIN_STEPS
    while True:
        shares = method.attribute(
            embedded,
            baseline,
            additional_forward_args=(lengths,),
            n_steps=steps,
            internal_batch_size=max(1, MAX_TOKENS_AT_ONCE // len(tokens)),
        )  # [1, time, embedding_dim]
        found = Attributions(shares[0].double().sum(dim=1).numpy(), at_text, at_baseline, steps)
        if steps == MAX_STEPS or _completeness_error(found) < TOLERANCE:
            return found
        steps *= 2


def _completeness_error(found: Attributions) -> float:
    wanted = found.difference - found.baseline
    gap = abs(found.tokens.sum() - wanted)
    return gap / abs(wanted) if wanted else np.inf
