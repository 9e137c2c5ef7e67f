"""The language model: what it predicts, its loss against references in float64, and its sample."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from rnn_lab.errors import ConfigError
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import validate_model
from rnn_lab.models.language_model import RecurrentLanguageModel
from rnn_lab.models.language_module import LanguageModel, Perplexity
from rnn_lab.models.sampled_softmax import (
    draw_words,
    inclusion_probabilities,
    softmax_losses,
)

VOCAB = 12
TEXTS = [[3, 4, 5, 6, 7], [8, 9, 1]]


def build(
    num_sampled: int | None = None, vocab_size: int = VOCAB, **options
) -> RecurrentLanguageModel:
    small = {"name": "gru", "embedding_dim": 6, "hidden_size": 5, "dropout": 0.0}
    config = validate_model(small | {"word_dropout": 0.0, "bidirectional": True} | options)
    torch.manual_seed(1)
    model = RecurrentLanguageModel(config, vocab_size, num_sampled).double()
    torch.nn.init.normal_(model.output_bias)
    torch.nn.init.normal_(model.embedding.weight[1:])
    return model


def padded(texts: list[list[int]], extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(text) for text in texts])
    tokens = torch.zeros(len(texts), int(lengths.max()) + extra, dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    return tokens, lengths


def loss_by_hand(
    model: RecurrentLanguageModel, text: list[int], place: int, forward: bool
) -> float:
    """Read one side of a word alone, with torch's own layer, and predict the word."""
    side = text[:place] if forward else text[:place:-1]
    gru = torch.nn.GRU(6, 5, batch_first=True).double()
    end = "" if forward else "_reverse"
    own = dict(model.recurrent.named_parameters())
    gru.load_state_dict({name: own[f"{name}{end}"] for name in gru.state_dict()})
    state = gru(model.embedding.weight[side][None])[0][0, -1]
    projected = model.projections[0 if forward else 1](state)
    logits = projected @ model.embedding.weight.T + model.output_bias
    logits[0] = -math.inf  # padding is no word
    return float(F.cross_entropy(logits[None], torch.tensor([text[place]])))


@torch.no_grad()
def test_each_direction_predicts_a_word_from_its_own_side_of_the_text():
    model = build().eval()
    losses = model(*padded(TEXTS))
    by_direction = [
        {loss_by_hand(model, text, place, forward) for text in TEXTS for place in places(text)}
        for forward, places in (
            (True, lambda text: range(1, len(text))),
            (False, lambda text: range(len(text) - 1)),
        )
    ]
    count = sum(len(text) - 1 for text in TEXTS)
    assert len(losses) == 2 * count
    for found, wanted in zip(losses.split(count), by_direction, strict=True):
        torch.testing.assert_close(found.sort().values, torch.tensor(sorted(wanted)).double())


@torch.no_grad()
def test_the_words_that_are_chosen_are_those_that_are_predicted():
    model = build().eval()
    tokens, lengths = padded(TEXTS)
    chosen = torch.zeros_like(tokens, dtype=torch.bool)
    chosen[0, 0] = chosen[0, 3] = chosen[1, 2] = True  # the first word has no word before it
    wanted = [
        *(loss_by_hand(model, TEXTS[0], 3, True), loss_by_hand(model, TEXTS[1], 2, True)),
        *(loss_by_hand(model, TEXTS[0], 0, False), loss_by_hand(model, TEXTS[0], 3, False)),
    ]
    found = model(tokens, lengths, chosen)
    torch.testing.assert_close(found.sort().values, torch.tensor(sorted(wanted)).double())


def test_padding_and_the_other_texts_of_a_batch_change_no_loss_and_no_gradient():
    def run(batches, extra):
        model = build()
        total = sum(model(*padded(texts, extra)).sum() for texts in batches)
        total.backward()
        return total.detach(), [p.grad for p in model.parameters()]

    together, alone = run([TEXTS], 3), run([[text] for text in TEXTS], 0)
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_are_those_of_finite_differences(bidirectional):
    model = build(num_sampled=7, bidirectional=bidirectional)
    tokens, lengths = padded(TEXTS)

    def loss(*weights: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)  # the same sample
        named = dict(zip(dict(model.named_parameters()), weights, strict=True))
        return torch.func.functional_call(model, named, (tokens, lengths)).sum()

    weights = [p.detach().clone().requires_grad_() for p in model.parameters()]
    torch.autograd.gradcheck(loss, weights, fast_mode=True)


@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_give_the_loss_and_the_gradient_of_torchs_cross_entropy(threads, set_threads):
    set_threads(threads)
    words, rows = 2500, 2100  # more than a block of either
    generator = torch.Generator().manual_seed(2)
    states, table, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in ((rows, 4), (words, 4), (words,))
    )
    targets = torch.randint(1, words, (rows,), generator=generator)
    logits = states @ table.T + bias
    wanted = F.cross_entropy(logits[:, 1:], targets - 1, reduction="none")
    found = softmax_losses(
        states, logits[torch.arange(rows), targets], targets,
        torch.arange(1, words), table[1:], bias[1:], words,
    )  # fmt: skip
    torch.testing.assert_close(found, wanted)
    weights = torch.rand(rows, dtype=torch.float64, generator=generator)
    gradients = [
        torch.autograd.grad((weights * one).sum(), (states, table, bias), retain_graph=True)
        for one in (found, wanted)
    ]
    torch.testing.assert_close(*gradients)


def test_a_second_derivative_is_refused():
    """Not returned without what comes from the softmax."""
    states = torch.randn(3, 4, requires_grad=True)
    table, targets = torch.randn(5, 4), torch.tensor([0, 1, 2])
    losses = softmax_losses(
        states, states.sum(1), targets, torch.arange(5), table, torch.zeros(5), vocab_size=5
    )
    (gradient,) = torch.autograd.grad(losses.sum(), states, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative here: .*cross_entropy"):
        gradient.square().sum().backward()


def test_a_sample_of_all_words_is_the_full_softmax():
    tokens, lengths = padded(TEXTS)
    exact, sampled = build()(tokens, lengths), build(num_sampled=VOCAB)(tokens, lengths)
    assert torch.equal(exact, sampled)


@torch.no_grad()
def test_the_sum_over_a_sample_is_the_sum_over_all_words_on_average():
    """exp(loss) is linear in the estimated sum, so that its mean is that of the full softmax."""
    words, draws = 60, 1000
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(20, 4, dtype=torch.float64, generator=generator) / 2
    table = torch.randn(words, 4, dtype=torch.float64, generator=generator)
    bias = -torch.arange(words).double().log1p()  # frequent words come first
    targets = torch.randint(1, words, (20,), generator=generator)
    of_targets = (states * table[targets]).sum(1) + bias[targets]
    exact = F.cross_entropy((states @ table.T + bias)[:, 1:], targets - 1, reduction="none")
    chances = inclusion_probabilities(words, 20)
    torch.manual_seed(4)
    losses = []
    for _ in range(draws):
        drawn = draw_words(chances)
        offsets = bias[drawn] - chances[drawn].log()
        losses.append(
            softmax_losses(states, of_targets, targets, drawn, table[drawn], offsets, words)
        )
    estimates = torch.stack(losses).exp()
    error = estimates.std(0) / math.sqrt(draws)
    assert bool(((estimates.mean(0) - exact.exp()).abs() < 5 * error).all())
    # The perplexity is not linear in it, and is a little too low.
    perplexity = float(estimates.log().mean().exp())
    assert perplexity == pytest.approx(float(exact.mean().exp()), rel=0.05)
    assert perplexity < float(exact.mean().exp())


def test_words_are_drawn_as_often_as_their_probability_says():
    found = inclusion_probabilities(1001, 100)
    ranks = torch.arange(1, 1001, dtype=torch.float64)
    certain = int((found[1:] == 1).sum())
    share = found[1 + certain :] / torch.log1p(1 / ranks[certain:])
    torch.testing.assert_close(share, share[:1].expand_as(share))  # by Zipf's law
    assert found[0] == 0 and 0 < certain < 100 and bool((found <= 1).all())
    assert float(found.sum()) == pytest.approx(100)
    torch.manual_seed(4)
    counts = torch.zeros(1001)
    for _ in range(2000):
        counts[draw_words(found)] += 1
    deviation = (found * (1 - found) / 2000).sqrt()
    assert bool(((counts / 2000 - found).abs() <= 5 * deviation + 1e-12).all())
    assert inclusion_probabilities(5, 4).tolist() == [0, 1, 1, 1, 1]


def test_a_sample_without_words_has_no_loss_and_a_finite_gradient():
    states = torch.randn(3, 2, requires_grad=True)
    none = torch.empty(0, dtype=torch.int64)
    targets = torch.tensor([1, 2, 3])
    found = softmax_losses(states, states.sum(1), targets, none, torch.empty(0, 2), none.float(), 4)
    assert found.tolist() == [0, 0, 0]
    found.sum().backward()
    assert bool(states.grad.isfinite().all())


def test_layers_have_the_names_and_shapes_of_a_classifiers():
    config = validate_model({"name": "lstm", "embedding_dim": 6, "hidden_size": 5, "num_layers": 2})
    classifier = RecurrentClassifier(config, VOCAB, 2).state_dict()
    shared = {
        name: weight.shape
        for name, weight in RecurrentLanguageModel(config, VOCAB).state_dict().items()
        if name.startswith(("embedding.", "recurrent."))
    }
    assert set(classifier) - set(shared) == {"linear.weight", "linear.bias", "temperature"}
    assert all(classifier[name].shape == shape for name, shape in shared.items())


def test_hidden_words_are_read_as_padding_and_still_predicted():
    model = build(word_dropout=0.5)
    read = []
    model.recurrent.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    tokens, lengths = padded([list(range(1, VOCAB))] * 40)
    assert len(model(tokens, lengths)) == 2 * 40 * (VOCAB - 2)
    share = (read[0] == 0).all(dim=2).double().mean()
    assert 0.4 < float(share) < 0.6


def test_a_second_layer_would_read_what_a_bidirectional_model_predicts():
    with pytest.raises(ConfigError, match="would read what it predicts"):
        build(num_layers=2)
    with pytest.raises(ConfigError, match=r"model\.ngrams=2: a language model has none"):
        LanguageModel({"name": "gru", "ngrams": 2}, VOCAB, {}, {})


def test_perplexity_is_the_exponential_of_the_mean_over_all_predictions():
    metric = Perplexity()
    for losses in ([1.0, 2.0, 3.0], [], [6.0]):
        metric.update(torch.tensor(losses))
    assert float(metric.compute()) == pytest.approx(math.exp(3.0))


class ProductShapes(TorchDispatchMode):
    """Record the shapes of the factors of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[torch.Size, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.found.add(tuple(arg.shape for arg in args if isinstance(arg, torch.Tensor)))
        return func(*args, **(kwargs or {}))


def test_products_have_the_same_shapes_for_any_number_of_words():
    """The library compiles a product in bfloat16 for each shape, and keeps many of them."""
    model = build(num_sampled=20, vocab_size=60).float()
    shapes = []
    for length in (20, 23):
        with ProductShapes() as products, torch.autocast("cpu", torch.bfloat16):
            model(*padded([list(range(3, 3 + length)), [5, 6]])).mean().backward()
        shapes.append(products.found)
    assert shapes[0] == shapes[1]
    assert any(512 in shape for factors in shapes[0] for shape in factors)


def test_variational_dropout_has_one_mask_for_all_steps():
    model = build(variational_dropout=True, dropout=0.5, embedding_dim=400).train()
    seen = {}
    model.recurrent.register_forward_pre_hook(lambda _, args: seen.update(inputs=args[0]))
    model.projections[0].register_forward_pre_hook(lambda _, args: seen.update(outputs=args[0]))
    text = [3, 4, 5, 6, 7, 8]
    model(*padded([text]))
    dropped = seen["inputs"][0] == 0  # [time, features]
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert 0.4 < dropped.double().mean() < 0.6
    dropped = seen["outputs"][: len(text) - 1] == 0
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert dropped.any()
