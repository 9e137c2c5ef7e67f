import numpy as np
import pytest
import torch

from rnn_lab.inference.integrated_gradients import (
    MAX_STEPS,
    MIN_STEPS,
    integrated_gradients,
)
from tests.inference.untrained import untrained_run

NETWORKS = [
    {"name": "lstm"},
    {"name": "gru"},
    {"name": "rnn", "pooling": "mean"},
    {"name": "lstm", "bidirectional": True, "pooling": "max"},
    {"name": "gru", "num_layers": 2},
    {"name": "rnn", "num_layers": 2, "bidirectional": True},
]
THREE = ("neg", "so so", "pos")
TOKENS = np.array([2, 4, 5, 6, 7, 11, 3, 1, 4, 8, 9, 10, 12])


def logit_difference(network, embedded, target):
    """The logit of `target` less the mean of the others': float [batch]."""
    lengths = torch.full([len(embedded)], embedded.shape[1])
    logits = network.forward_embedded(embedded, lengths)
    others = [index for index in range(logits.shape[1]) if index != target]
    return logits[:, target] - logits[:, others].mean(dim=1)


@pytest.mark.parametrize("class_names", [("neg", "pos"), THREE])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_shares_sum_to_the_logit_difference(network, class_names):
    model = untrained_run(class_names=class_names, **network).model
    target = len(class_names) - 1
    found = integrated_gradients(model, TOKENS, target)
    with torch.no_grad():
        embedded = model.embedding(torch.from_numpy(TOKENS))[None]
        difference, baseline = (
            logit_difference(model, end, target).item() for end in (embedded, 0 * embedded)
        )
    assert found.difference == pytest.approx(difference, abs=1e-5)
    assert found.baseline == pytest.approx(baseline, abs=1e-5)
    assert abs(difference - baseline) > 0.001
    assert found.tokens.sum() == pytest.approx(difference - baseline, rel=0.01)
    assert MIN_STEPS <= found.steps <= MAX_STEPS


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_each_share_is_the_integral_of_its_gradient(network):
    """Sundararajan et al. 2017, equation 1, as a midpoint sum in float64."""
    run = untrained_run(class_names=THREE, **network)
    found = integrated_gradients(run.model, TOKENS, 0)
    double = run.model.double()
    embedded = double.embedding(torch.from_numpy(TOKENS))[None].detach()  # [1, time, embedding]
    steps = 4000
    share = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    along = (share[:, None, None] * embedded).requires_grad_()  # [steps, time, embedding]
    logit_difference(double, along, 0).sum().backward()
    expected = (along.grad.mean(dim=0) * embedded[0]).sum(dim=1)  # [time]
    largest = expected.abs().max().item()
    np.testing.assert_allclose(found.tokens, expected, atol=0.01 * largest)


def test_one_token_has_the_whole_difference():
    model = untrained_run(name="gru").model
    found = integrated_gradients(model, np.array([7]), 1)
    assert found.tokens.shape == (1,)
    assert found.tokens[0] == pytest.approx(found.difference - found.baseline, rel=0.01)
