"""The two tasks: their losses and decisions, and the thresholds of labels."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, log_loss
from torch.distributions import Bernoulli, Categorical, kl_divergence

from rnn_lab.models.tasks import TASKS, best_thresholds


@pytest.mark.parametrize("task", TASKS)
def test_logits_give_back_their_probabilities(task):
    functions = TASKS[task]
    given = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    logits = functions.logits(given)
    assert logits.isfinite().all()
    torch.testing.assert_close(functions.probabilities(logits), given)


def test_losses_are_those_of_scikit_learn():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=rng)
    several = torch.randint(0, 2, (50, 4), generator=rng)
    multilabel = TASKS["multilabel"]
    found = multilabel.losses(logits, several)
    scores = multilabel.probabilities(logits).double().numpy()
    for row in range(50):
        each = [
            log_loss([y], [p], labels=[0, 1])
            for y, p in zip(several[row], scores[row], strict=True)
        ]
        assert found[row].item() == pytest.approx(np.mean(each), rel=1e-5)
    assert multilabel.loss(logits, several).item() == pytest.approx(found.mean().item())
    exact = ((scores >= 0.5) == several.numpy()).all(axis=1)
    assert np.array_equal(multilabel.correct(logits, several).numpy(), exact)
    one = several.argmax(dim=1)
    multiclass = TASKS["multiclass"]
    assert multiclass.loss(logits, one) == torch.nn.functional.cross_entropy(logits, one)
    of_label = multiclass.probabilities(logits).gather(1, one[:, None])[:, 0]
    assert torch.allclose(multiclass.losses(logits, one), -of_label.log(), atol=1e-6)


@pytest.mark.parametrize("digits", [1, 6])  # with and without equal probabilities
def test_no_threshold_has_a_higher_f1(digits):
    rng = np.random.default_rng(digits)
    labels = rng.random((60, 5)) < (0.5, 0.2, 0.05, 1.0, 0.0)
    labels[0, :4] = True
    scores = np.float32(np.round(rng.random((60, 5)) * 0.6 + labels * 0.3, digits))
    found = best_thresholds(torch.from_numpy(scores), torch.from_numpy(labels).long())
    assert found.dtype == torch.float32
    for label in range(4):
        chosen = f1_score(labels[:, label], scores[:, label] >= found[label].item())
        each = [f1_score(labels[:, label], scores[:, label] >= cut) for cut in scores[:, label]]
        assert chosen == pytest.approx(max(each))
        assert found[label].item() not in scores[:, label]
    assert found[4] == 0.5  # no text has the label


def test_a_threshold_lies_between_two_probabilities():
    scores = torch.tensor([[0.9], [0.8], [0.4], [0.1]])
    assert best_thresholds(scores, torch.tensor([[1], [1], [0], [0]])).tolist() == [
        pytest.approx(0.6)
    ]
    neighbours = torch.tensor([[0.5], [np.nextafter(np.float32(0.5), np.float32(0))]])
    (threshold,) = best_thresholds(neighbours, torch.tensor([[1], [0]]))
    assert ((neighbours >= threshold) == torch.tensor([[True], [False]])).all()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_entropy_and_divergence_are_those_of_torchs_distributions(task):
    torch.manual_seed(0)
    p, q = (4 * torch.randn(5, 3, dtype=torch.float64) for _ in range(2))
    q[0], p[1, 0] = p[0], 40.0
    kind = {"multiclass": Categorical, "multilabel": Bernoulli}[task]
    entropies = kind(logits=p).entropy()
    divergences = kl_divergence(kind(logits=p), kind(logits=q))
    if task == "multilabel":  # means over the labels of a text
        entropies, divergences = entropies.mean(1), divergences.mean(1)
    torch.testing.assert_close(TASKS[task].entropies(p), entropies)
    torch.testing.assert_close(TASKS[task].divergences(p, q), divergences)
    assert TASKS[task].divergences(p, q)[0] == 0
    p, q = p.clamp(max=5).requires_grad_(), q.requires_grad_()
    assert torch.autograd.gradcheck(TASKS[task].entropies, (p,))
    assert torch.autograd.gradcheck(TASKS[task].divergences, (p, q))
