"""The temperature is the one with the lowest loss, and no prediction depends on it."""

import lightning as L
import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, logit
from sklearn.metrics import log_loss

from rnn_lab.models.calibration import (
    MAX_TEMPERATURE,
    MIN_EXAMPLES,
    MIN_TEMPERATURE,
    calibrate,
    fit_temperature,
    scale_thresholds,
)
from rnn_lab.models.tasks import TASKS, best_thresholds
from tests.models.test_lightning_module import (
    batches,
    build,
    loader,
    trainer,
    which_comes_first,
)


def overconfident(texts: int, classes: int, factor: float, seed: int = 0):
    """Logits that are `factor` times those with which the labels were drawn, float32."""
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=2, size=(texts, classes))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)  # of the softmax of z
    return torch.from_numpy(np.float32(factor * z)), torch.from_numpy(labels)


def several_labels(texts: int, classes: int, factor: float, seed: int = 0):
    """The same with any number of labels a text."""
    rng = np.random.default_rng(seed)
    z = rng.normal(loc=-1, scale=2, size=(texts, classes))
    labels = rng.random(z.shape) < expit(z)
    return torch.from_numpy(np.float32(factor * z)), torch.from_numpy(labels).long()


def best_by_scipy(loss) -> float:
    bounds = np.log([MIN_TEMPERATURE, MAX_TEMPERATURE])
    options = {"xatol": 1e-10}
    return np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options=options).x)


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 12.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_no_temperature_has_a_lower_loss(classes, factor):
    logits, labels = overconfident(700, classes, factor)
    z, rows = logits.double().numpy(), np.arange(700)

    def loss(log_temperature):
        return -log_softmax(z / np.exp(log_temperature), axis=1)[rows, labels].mean()

    found = fit_temperature(logits, labels)
    assert found == pytest.approx(best_by_scipy(loss), rel=1e-6)
    assert found == pytest.approx(factor, rel=0.2)  # the one that made the logits overconfident
    assert np.float32(found) == found
    assert fit_temperature(logits, labels) == found
    before, after = (log_loss(labels, (logits.double() / t).softmax(1).numpy()) for t in (1, found))
    assert after <= before


@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_labels_share_one_temperature(factor):
    logits, labels = several_labels(500, 6, factor)
    z, y = logits.double().numpy(), labels.numpy()

    def loss(log_temperature):
        scaled = z / np.exp(log_temperature)
        return -np.where(y, log_expit(scaled), log_expit(-scaled)).mean()

    found = fit_temperature(logits, labels)
    assert found == pytest.approx(best_by_scipy(loss), rel=1e-6)
    assert found == pytest.approx(factor, rel=0.2)


def test_many_classes_are_read_in_parts_and_the_order_is_of_no_consequence(monkeypatch):
    logits, labels = overconfident(700, 5, 3.0)
    whole, order = fit_temperature(logits, labels), torch.randperm(700)
    assert fit_temperature(logits[order], labels[order]) == pytest.approx(whole, rel=1e-7)
    monkeypatch.setattr("rnn_lab.models.calibration._MAX_NUMBERS", 64)
    assert fit_temperature(logits, labels) == pytest.approx(whole, rel=1e-7)


def test_without_an_optimum_the_temperature_stays_at_one():
    logits, labels = overconfident(300, 3, 3.0)
    separable = logits.argmax(dim=1)
    inverted = logits.argmin(dim=1)
    few = MIN_EXAMPLES - 1
    for case, (z, y) in {
        "every label is right": (logits, separable),
        "every label is right by little": (logits * 1e-3, separable),
        "every label is wrong": (logits, inverted),
        "one class alone": (torch.tensor([[9.0, 1.0]]).expand(200, 2), torch.zeros(200).long()),
        "no class is preferred": (torch.zeros(200, 3), labels[:200]),
        "few texts": (logits[:few], labels[:few]),
        "no text": (logits[:0], labels[:0]),
        "non-finite": (torch.full((200, 3), torch.nan), labels[:200]),
    }.items():
        assert fit_temperature(z, y) == 1.0, case
        assert calibrate(TASKS["multiclass"], z, y) == (1.0, None), case
    assert fit_temperature(logits, torch.where(labels == 2, 0, labels)) > 1  # a class has no text


def test_predictions_stay_and_their_error_falls():
    logits, labels = overconfident(2000, 4, 5.0)
    temperature, thresholds = calibrate(TASKS["multiclass"], logits, labels)
    assert temperature > 4 and thresholds is None
    new, new_labels = overconfident(20_000, 4, 5.0, seed=1)
    before, after = new.softmax(dim=1), (new / temperature).softmax(dim=1)
    assert torch.equal(before.argmax(dim=1), after.argmax(dim=1))
    assert (
        calibration_error(after, new_labels) < 0.02 < 0.15 < calibration_error(before, new_labels)
    )


def calibration_error(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """Guo et al. 2017, equation 3, by hand: 15 bins."""
    top, predicted = (found.numpy() for found in probabilities.double().max(dim=1))
    hits, error = predicted == labels.numpy(), 0.0
    for low in range(15):
        inside = (top > low / 15) & (top <= (low + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(hits[inside].mean() - top[inside].mean())
    return error


@pytest.mark.parametrize("factor", [0.4, 4.0])
def test_thresholds_are_scaled_with_the_logits(factor):
    logits, labels = several_labels(1000, 5, factor)
    thresholds = best_thresholds(logits.sigmoid(), labels)
    temperature, scaled = calibrate(TASKS["multilabel"], logits, labels, thresholds)
    assert temperature == pytest.approx(factor, rel=0.2)
    assert scaled.dtype == torch.float32
    expected = expit(logit(thresholds.double().numpy()) / temperature)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    new, _ = several_labels(20_000, 5, factor, seed=1)
    before, after = new.sigmoid() >= thresholds, (new / temperature).sigmoid() >= scaled
    assert torch.equal(before, after)
    assert torch.equal(
        scale_thresholds(torch.tensor([0.0, 0.5, 1.0]), 3.0), torch.tensor([0, 0.5, 1])
    )


def test_where_rounding_would_change_a_prediction_the_temperature_stays_at_one():
    logits, labels = several_labels(1000, 2, 0.4)
    logits[:2, 0], labels[:2, 0] = torch.tensor([7.5, 8.0]), torch.tensor([0, 1])
    thresholds = torch.tensor([torch.tensor(7.75).sigmoid(), 0.5])
    temperature = fit_temperature(logits, labels)
    rounded = (logits[:2, 0] / temperature).sigmoid()
    assert rounded[0] == rounded[1] == 1  # although one of them is below the threshold
    found = calibrate(TASKS["multilabel"], logits, labels, thresholds)
    assert found[0] == 1.0 and torch.equal(found[1], thresholds)


def test_training_has_the_same_bits_and_the_checkpoint_the_temperature_of_its_validation():
    train, held_out = (batches(which_comes_first(n, seed=n), 64) for n in (512, 300))
    found = {}
    for calibrates in (False, True):
        L.seed_everything(1)
        model = build(calibrate=calibrates, model={"dropout": 0.5})
        run = trainer(max_epochs=3, num_sanity_val_steps=0)
        run.fit(model, loader(train), loader(held_out))
        validated = {n: v.item() for n, v in run.callback_metrics.items()}
        found[calibrates] = model, validated, run.test(model, loader(held_out), verbose=False)[0]
    plain, (model, validated, tested) = found[False], found[True]
    assert validated == plain[1]
    states = plain[0].state_dict(), model.state_dict()
    assert list(states[0]) == list(states[1])
    name = "classifier.temperature"
    assert all(torch.equal(v, states[1][n]) for n, v in states[0].items() if n != name)
    assert states[0][name] == 1.0

    with torch.no_grad():
        logits = torch.cat([model.eval()(b.tokens, b.lengths) for b in held_out])
    labels = torch.cat([b.labels for b in held_out])
    temperature = states[1][name].item()
    assert temperature != 1.0
    assert temperature == pytest.approx(fit_temperature(logits, labels), rel=1e-5)
    probabilities = (logits / temperature).softmax(dim=1)
    assert tested["test/accuracy"] == validated["val/accuracy"] == plain[2]["test/accuracy"]
    assert tested["test/loss"] == pytest.approx(log_loss(labels, probabilities.double()), abs=1e-5)
    error = calibration_error(probabilities, labels)
    assert tested["test/calibration_error"] == pytest.approx(error, abs=1e-5)
    names = {f"test/{n}": validated[f"val/{n}"] for n in ("loss", "calibration_error")}
    assert model.uncalibrated == pytest.approx(names, abs=1e-6)
    assert tested["test/loss"] < validated["val/loss"]
    predicted = torch.cat([p["probabilities"] for p in trainer().predict(model, loader(held_out))])
    torch.testing.assert_close(predicted, probabilities)


def test_labels_of_a_multilabel_text_are_predicted_as_without_calibration():
    texts = batches(which_comes_first(400, seed=3), 64)
    has_token_5 = [(b.tokens == 5).any(dim=1).long() for b in texts]
    both = [
        b._replace(labels=torch.stack([b.labels, other], dim=1))
        for b, other in zip(texts, has_token_5, strict=True)
    ]
    tested, models = [], []
    for calibrates in (False, True):
        L.seed_everything(1)
        model = build(calibrate=calibrates, task="multilabel")
        run = trainer(max_epochs=3, num_sanity_val_steps=0)
        run.fit(model, loader(both), loader(both))
        tested.append(run.test(model, loader(both), verbose=False)[0])
        models.append(model.classifier)
    assert models[1].temperature != 1.0 and not torch.equal(
        models[0].thresholds, models[1].thresholds
    )
    for name in ("accuracy", "f1", "f1_micro"):
        assert tested[0][f"test/{name}"] == tested[1][f"test/{name}"]
    assert tested[1]["test/loss"] < tested[0]["test/loss"]
    assert "test/calibration_error" not in tested[1]
