"""Training losses against finite differences, eigenvectors and torch's own distributions."""

import lightning as L
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from rnn_lab.data.batches import Batch, MixedBatch, PaddedTexts
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import LossConfig, validate_model
from rnn_lab.models.fast.paths import run_packed
from rnn_lab.models.layers import LSTM
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.mixed_loss import mixed_loss
from rnn_lab.models.perturbation import (
    EmbeddedTexts,
    adversarial_perturbation,
    virtual_adversarial_perturbation,
    without_dropout,
)

VOCAB_SIZE, DIM = 20, 3
LENGTHS = [5, 2, 4]
ALL = {"adversarial": 1.0, "virtual_adversarial": 0.5, "entropy": 0.25, "r_drop": 2.0}
every_cell = pytest.mark.parametrize("name", ["lstm", "gru", "peephole_lstm", "mingru"])


def build(
    name: str = "gru", num_classes: int = 3, task: str = "multiclass", **options
) -> RecurrentClassifier:
    """A classifier in training mode whose logits differ clearly; without dropout by default."""
    torch.manual_seed(0)
    small = {"embedding_dim": DIM, "hidden_size": 4, "dropout": 0.0, "word_dropout": 0.0}
    options = {"name": name} | small | options
    classifier = RecurrentClassifier(validate_model(options), VOCAB_SIZE, num_classes, task)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.uniform_(-1, 1)
        classifier.embedding.weight[0] = 0
    return classifier


def texts(lengths: list[int] = LENGTHS, extra: int = 0, seed: int = 0) -> PaddedTexts:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(len(lengths), max(lengths) + extra, dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randint(2, VOCAB_SIZE, (length,), generator=generator)
    return PaddedTexts(tokens, torch.tensor(lengths))


def batch(unlabelled: PaddedTexts | None = None, **options) -> Batch | MixedBatch:
    found = Batch(*texts(**options), torch.tensor([0, 2, 1]), torch.arange(3))
    return found if unlabelled is None else MixedBatch(*found, unlabelled)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@every_cell
def test_the_adversarial_direction_is_that_of_finite_differences(name):
    classifier, (tokens, lengths) = build(name).double(), texts()
    labels = torch.tensor([0, 2, 1])
    found = EmbeddedTexts.embed(classifier, tokens, lengths)
    losses = classifier.task.losses(found.logits(), labels)
    _, r = adversarial_perturbation(found, losses.sum(), epsilon=5.0, keep_graph=True)

    step, gradient = 1e-5, torch.zeros_like(found.vectors)
    vectors = found.vectors.detach()
    with torch.no_grad():
        for time in range(tokens.shape[1]):
            for feature in range(DIM):
                moved = []
                for sign in (1, -1):
                    at = vectors.clone()
                    at[:, time, feature] += sign * step
                    logits = classifier.forward_embedded(at, lengths)
                    moved.append(F.cross_entropy(logits, labels, reduction="none"))
                gradient[:, time, feature] = (moved[0] - moved[1]) / (2 * step)
    words = torch.cat([vectors[row, :length] for row, length in enumerate(LENGTHS)])
    size = 5.0 * words.square().mean().sqrt()
    expected = size * gradient / gradient.flatten(1).norm(dim=1)[:, None, None]
    torch.testing.assert_close(r, expected, rtol=1e-6, atol=1e-8)
    for row, length in enumerate(LENGTHS):
        assert torch.all(r[row, length:] == 0)
    moved = classifier.task.losses(found.logits(1e-3 * r), labels)
    assert torch.all(moved > losses)  # r makes the loss grow


def divergence_hessian(classifier: RecurrentClassifier, found: EmbeddedTexts) -> torch.Tensor:
    """The Hessian of KL(p(s) || p(s + r)) at r = 0 of a batch of one text, by autograd."""
    classifier.recurrent.use_numba = False  # torch's own steps can be differentiated twice

    def distribution(logits: torch.Tensor) -> torch.distributions.Distribution:
        if logits.shape[1] == 1:
            return torch.distributions.Bernoulli(logits=logits)
        return torch.distributions.Categorical(logits=logits)

    target = distribution(found.logits().detach())

    def divergence(r: torch.Tensor) -> torch.Tensor:
        other = distribution(found.logits(r.view_as(found.vectors)))
        return torch.distributions.kl_divergence(target, other).sum()

    zero = torch.zeros(found.vectors.numel(), dtype=torch.float64)
    return torch.autograd.functional.hessian(divergence, zero)


@every_cell
@pytest.mark.parametrize(("num_classes", "task"), [(2, "multiclass"), (1, "multilabel")])
def test_the_direction_of_two_outcomes_is_the_dominant_eigenvector(name, num_classes, task):
    """Their Hessian has rank one: its eigenvector is the gradient of the log-odds."""
    classifier = build(name, num_classes=num_classes, task=task, dropout=0.5).double()
    found = EmbeddedTexts.embed(classifier, *texts([5])).detach()
    target, r = virtual_adversarial_perturbation(found, epsilon=5.0)
    assert all(weight.requires_grad and weight.grad is None for weight in classifier.parameters())
    classifier.eval()  # the distributions have no dropout
    torch.testing.assert_close(target, classifier(*texts([5])), rtol=0, atol=1e-12)
    assert not target.requires_grad and not r.requires_grad
    values, eigenvectors = torch.linalg.eigh(divergence_hessian(classifier, found))
    assert values[-1] > 1e3 * values[:-1].abs().max()
    assert abs(cosine(r, eigenvectors[:, -1])) > 0.999
    size = 5.0 * found.vectors.square().mean().sqrt()
    torch.testing.assert_close(r.norm(), size)


def test_the_sign_of_a_direction_is_random():
    classifier = build(num_classes=2)
    found = EmbeddedTexts.embed(classifier, *texts([5] * 8)).detach()
    tried = [virtual_adversarial_perturbation(found, epsilon=5.0)[1] for _ in range(20)]
    signs = torch.stack([(r * tried[0]).flatten(1).sum(1).sign() for r in tried])
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert all(0 < (column > 0).sum() < len(column) for column in signs[1:].T)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_power_iteration_multiplies_by_the_hessian(dtype):
    classifier = build(num_classes=4, dropout=0.5).to(dtype)  # the iteration has no dropout
    found = EmbeddedTexts.embed(classifier, *texts([5])).detach()
    torch.manual_seed(3)
    d = torch.randn_like(found.vectors).flatten().double()
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        _, r = virtual_adversarial_perturbation(found, epsilon=1.0)
    exact = build(num_classes=4).double()
    hessian = divergence_hessian(exact, EmbeddedTexts.embed(exact, *texts([5])).detach())
    assert cosine(r.double(), hessian @ d) > 0.995
    eigenvector = torch.linalg.eigh(hessian).eigenvectors[:, -1]
    assert abs(cosine(r.double(), eigenvector)) > abs(cosine(d, eigenvector))


def test_the_direction_for_confident_texts_in_float16():
    """Their gradients underflow in float16: the loss that gives r is scaled."""
    classifier = build(num_classes=2, hidden_size=16)
    with torch.no_grad():
        classifier.linear.bias.copy_(torch.tensor([10.0, 0.0]))  # sure of the first class
    labels = torch.zeros(64, dtype=torch.int64)
    found = EmbeddedTexts.embed(classifier, *texts([9] * 64), labels)

    def direction() -> torch.Tensor:
        loss = F.cross_entropy(found.logits(), labels)
        return adversarial_perturbation(found, loss, epsilon=1.0, keep_graph=True)[1]

    exact = direction()
    with torch.autocast("cpu", torch.float16):
        rough = direction()
    assert F.cosine_similarity(rough.flatten(1), exact.flatten(1)).min() > 0.99


def test_virtual_adversarial_words_change_predictions_more_than_random_ones():
    classifier = build(num_classes=3, hidden_size=8).double()
    found = EmbeddedTexts.embed(classifier, *texts([9, 6, 8, 7])).detach()
    target, r = virtual_adversarial_perturbation(found, epsilon=0.5)
    changed = classifier.task.divergences(target, found.logits(r))
    random = torch.stack(
        [
            classifier.task.divergences(
                target, found.logits(found.scaled(torch.randn_like(found.vectors), 0.5))
            )
            for _ in range(50)
        ]
    )
    assert torch.all(changed > 2 * random.mean(0))


def test_each_loss_is_that_of_its_paper():
    """Composed again here from the perturbations alone, and with gradients."""
    classifier, config = build(dropout=0.5), LossConfig(**ALL)
    labelled, others = batch(), texts([3, 6], seed=1)
    torch.manual_seed(1)
    found = mixed_loss(classifier, MixedBatch(*labelled, others), config, F.cross_entropy)
    found.total.backward()
    gradients = [parameter.grad.clone() for parameter in classifier.parameters()]
    classifier.zero_grad()

    def passes(tokens, lengths, number):
        vectors = classifier.embed(tokens)
        return vectors, [classifier.forward_embedded(vectors, lengths) for _ in range(number)]

    def divergence(p, q):
        distributions = [torch.distributions.Categorical(logits=logits) for logits in (p, q)]
        return torch.distributions.kl_divergence(*distributions)

    def label_free(tokens, lengths, vectors, logits):
        given = EmbeddedTexts.embed(classifier, tokens, lengths)
        target, r = virtual_adversarial_perturbation(given, 5.0)
        moved = classifier.forward_embedded(vectors + r, lengths)
        return (
            divergence(target, moved),
            torch.distributions.Categorical(logits=logits[0]).entropy(),
            (divergence(*logits) + divergence(*reversed(logits))) / 2,
        )

    torch.manual_seed(1)
    vectors, logits = passes(*labelled[:2], 2)
    supervised = (F.cross_entropy(logits[0], labelled.labels) / 2) + (
        F.cross_entropy(logits[1], labelled.labels) / 2
    )
    losses = F.cross_entropy(logits[0], labelled.labels, reduction="none")
    (g,) = torch.autograd.grad(losses.sum(), vectors, retain_graph=True)
    rms = (vectors.detach().square().sum() / (sum(LENGTHS) * DIM)).sqrt()
    r = 5.0 * rms * g / g.flatten(1).norm(dim=1)[:, None, None]
    moved = classifier.forward_embedded(vectors + r, labelled.lengths)
    adversarial = F.cross_entropy(moved, labelled.labels)
    first = label_free(*labelled[:2], vectors, logits)
    second = label_free(*others, *passes(*others, 2))
    vat, entropy, r_drop = (torch.cat(both).mean() for both in zip(first, second, strict=True))
    expected = {
        "cross_entropy": (supervised, 3),
        "adversarial": (adversarial, 3),
        "virtual_adversarial": (vat, 5),
        "entropy": (entropy, 5),
        "r_drop": (r_drop, 5),
    }
    assert found.terms.keys() == expected.keys()
    for name, (value, count) in expected.items():
        torch.testing.assert_close(found.terms[name].mean, value, rtol=1e-4, atol=1e-6)
        assert found.terms[name].texts == count
    total = supervised + adversarial + 0.5 * vat + 0.25 * entropy + 2.0 * r_drop
    torch.testing.assert_close(found.total, total)
    total.backward()
    for gradient, parameter in zip(gradients, classifier.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"ngrams": 2, "ngram_buckets": 64}, {"pooling": "attention"}, {"num_classes": 1}],
    ids=str,
)
@pytest.mark.parametrize("frozen", [(), ("embedding",), ("recurrent", "linear")], ids=str)
def test_the_adversarial_loss_alone_has_the_gradient_of_both_passes(options, frozen):
    """Whose first pass is differentiated once, for the perturbation and for the step."""
    task = "multilabel" if "num_classes" in options else "multiclass"
    classifier = build(task=task, **options).double()
    for name in frozen:
        getattr(classifier, name).requires_grad_(False)
    given = batch()
    if task == "multilabel":
        given = given._replace(labels=torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64))

    def gradients():
        weights = [weight for weight in classifier.parameters() if weight.requires_grad]
        found = [weight.grad for weight in weights]
        classifier.zero_grad()
        return found

    config = LossConfig(adversarial=0.7)
    found = mixed_loss(classifier, given, config, classifier.task.loss)
    found.total.mul(3).backward()  # as with accumulated batches or a scaled loss
    embedded = EmbeddedTexts.embed(classifier, given.tokens, given.lengths)
    loss = classifier.task.loss(embedded.logits(), given.labels)
    same, r = adversarial_perturbation(embedded, loss, config.epsilon, keep_graph=True)
    assert same is loss
    moved = classifier.task.loss(embedded.logits(r), given.labels)
    computed = gradients()
    (3 * (loss + 0.7 * moved)).backward()
    torch.testing.assert_close(found.total, loss + 0.7 * moved)
    expected = gradients()
    assert any(gradient is not None for gradient in expected)
    torch.testing.assert_close(computed, expected)


def test_a_second_derivative_of_known_gradients_is_refused():
    classifier = build("lstm")
    embedded = EmbeddedTexts.embed(classifier, *texts(LENGTHS))
    loss, _ = adversarial_perturbation(embedded, embedded.logits().sum(), epsilon=1.0)
    (gradient,) = torch.autograd.grad(loss, embedded.vectors, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative here: .*keep_graph=True"):
        gradient.square().sum().backward()


def test_the_first_pass_has_the_bits_of_the_classifier():
    classifier = build(dropout=0.5, word_dropout=0.3, ngrams=2, ngram_buckets=64)
    given = batch()
    torch.manual_seed(5)
    logits = classifier(given.tokens, given.lengths)
    torch.manual_seed(5)
    found = mixed_loss(classifier, given, LossConfig(**ALL), classifier.task.loss)
    assert torch.equal(found.logits, logits)


def test_no_weight_is_the_cross_entropy():
    assert LossConfig().is_cross_entropy
    found = mixed_loss(build(), batch(texts([4])), LossConfig(), F.cross_entropy)
    assert found.terms.keys() == {"cross_entropy"}
    expected = F.cross_entropy(found.logits, batch().labels)
    torch.testing.assert_close(found.total, expected)


def test_hidden_words_and_padding_do_not_move():
    classifier = build(word_dropout=0.5)
    torch.manual_seed(0)
    found = EmbeddedTexts.embed(classifier, *texts([30, 20]))
    hidden = ~found.is_word[:, :, 0]
    assert 10 < hidden.sum() < 50
    _, r = virtual_adversarial_perturbation(found, 5.0)
    losses = classifier.task.losses(found.logits(), torch.tensor([0, 1]))
    for moved in (r, adversarial_perturbation(found, losses.sum(), 5.0)[1]):
        assert torch.all(moved[hidden] == 0) and torch.all(moved[~hidden].abs().sum(1) > 0)
    rms = found.vectors[~hidden].square().mean().sqrt()
    torch.testing.assert_close(r.flatten(1).norm(dim=1), 5.0 * rms.expand(2))


def test_padding_changes_nothing():
    config = LossConfig(adversarial=1.0, entropy=1.0, r_drop=1.0)
    classifier = build(bidirectional=True, pooling="mean", ngrams=2, ngram_buckets=64).double()
    results = []
    for extra in (0, 7):
        found = mixed_loss(
            classifier, batch(texts([2, 3], extra=extra), extra=extra), config, F.cross_entropy
        )
        classifier.zero_grad()
        found.total.backward()
        results.append([found.total, *(p.grad.clone() for p in classifier.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_larger_embeddings_are_moved_further():
    """A network cannot escape by growing its embeddings."""
    classifier = build()
    sizes = []
    for _ in range(2):
        found = EmbeddedTexts.embed(classifier, *texts())
        sizes.append(virtual_adversarial_perturbation(found, 5.0)[1].norm())
        with torch.no_grad():
            classifier.embedding.weight *= 10
    torch.testing.assert_close(sizes[1], 10 * sizes[0])


def test_a_text_without_a_word_and_a_tiny_gradient():
    classifier = build()
    found = EmbeddedTexts.embed(
        classifier, torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 1])
    )
    _, r = virtual_adversarial_perturbation(found, 5.0)
    assert torch.all(r == 0)
    found = EmbeddedTexts.embed(classifier, *texts())
    directions = 1e-30 * torch.randn_like(found.vectors)
    assert cosine(found.scaled(directions, 1.0), 1e30 * directions * found.is_word) > 0.9
    norms = found.scaled(directions, 1.0).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, norms[:1].expand(3))


def test_class_weights_and_smoothing_are_those_of_the_adversarial_loss_too():
    classifier, weights = build(), torch.tensor([2.0, 0.1, 0.5])

    def supervised(logits, labels):
        options = {"reduction": "sum", "label_smoothing": 0.3}
        return F.cross_entropy(logits, labels, weights, **options) / len(labels)

    found = mixed_loss(classifier, batch(), LossConfig(adversarial=1.0), supervised)
    given = EmbeddedTexts.embed(classifier, *texts())
    loss = supervised(given.logits(), batch().labels)
    moved = given.logits(adversarial_perturbation(given, loss, 5.0, keep_graph=True)[1])
    expected = supervised(moved, batch().labels)
    torch.testing.assert_close(found.terms["adversarial"].mean, expected)
    assert expected > loss


def test_any_number_of_labels():
    classifier = build(num_classes=3, task="multilabel", dropout=0.5)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    found = mixed_loss(
        classifier,
        batch(texts([4]))._replace(labels=labels),
        LossConfig(**ALL),
        classifier.task.loss,
    )
    assert all(term.mean.isfinite() and term.mean >= 0 for term in found.terms.values())
    found.total.backward()
    assert all(p.grad.isfinite().all() for p in classifier.parameters())


def test_packed_sequences_have_no_dropout_either():
    """As cuDNN's layers: torch.nn's has a dropout of its own."""
    layer = LSTM(3, 4, num_layers=2, dropout=0.5)
    inputs, lengths = torch.randn(2, 6, 3), torch.tensor([6, 4])
    expected = layer.eval()(inputs, lengths)[0]
    layer.train()
    assert not torch.equal(run_packed(layer, inputs, lengths, None)[0], expected)
    with without_dropout(layer):
        torch.testing.assert_close(run_packed(layer, inputs, lengths, None)[0], expected)
    assert layer.dropout == 0.5 and layer.training
    assert not torch.equal(run_packed(layer, inputs, lengths, None)[0], expected)


class Recorder(L.Callback):
    """Keep the training metrics of the last epoch."""

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/")
        }


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("sparse", [True, False])
def test_trains_with_all_losses_and_logs_each(precision, sparse):
    def train(sparse_embedding: bool) -> tuple[dict[str, float], list[torch.Tensor]]:
        torch.manual_seed(0)
        module = TextClassifier(
            {"name": "gru", "embedding_dim": 8, "hidden_size": 8, "dropout": 0.3},
            VOCAB_SIZE,
            3,
            {"lr": 0.01, "sparse_embedding": sparse_embedding},
            {"name": "constant", "warmup_ratio": 0.0},
            class_weights=[1.0, 2.0, 3.0],
            loss=ALL,
        )
        batches = [batch(texts([7, 3], seed=100 + seed), seed=seed) for seed in range(6)]
        recorder = Recorder()
        trainer = L.Trainer(
            max_epochs=2,
            accelerator="cpu",
            precision=precision,
            gradient_clip_val=1.0,
            accumulate_grad_batches=2,
            logger=False,
            callbacks=[recorder],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(batches, batch_size=None))
        return recorder.metrics, [p.detach() for p in module.parameters()]

    metrics, weights = train(sparse)
    names = {f"train/loss_{name}" for name in ("cross_entropy", *ALL)}
    assert metrics.keys() == {"train/loss", "train/accuracy"} | names
    total = metrics["train/loss_cross_entropy"]
    total += sum(weight * metrics[f"train/loss_{name}"] for name, weight in ALL.items())
    assert metrics["train/loss"] == pytest.approx(total, rel=1e-5)
    if sparse and precision == "32-true":
        for one, other in zip(weights, train(False)[1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
