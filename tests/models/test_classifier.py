"""The classifier against the textbook: torch's own layers on packed sequences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnn_lab.errors import ConfigError
from rnn_lab.models.classifier import RecurrentClassifier
from rnn_lab.models.config import GRUConfig, LSTMConfig, ModelConfig, validate_model

TORCH_LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
VOCAB_SIZE = 30
every_model = pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
every_pooling = pytest.mark.parametrize(
    "pooling", ["last", "mean", "max", "max_mean", "last_max_mean"]
)


def build(name: str, num_classes: int = 3, **options) -> RecurrentClassifier:
    torch.manual_seed(0)
    options = {"embedding_dim": 7, "hidden_size": 6, "dropout": 0.5} | options
    classifier = RecurrentClassifier(
        validate_model({"name": name} | options), VOCAB_SIZE, num_classes
    )
    # Larger weights than at the start of training, so that a mistake shows in the logits; not so
    # large that the plain network turns chaotic and makes a difference of every rounding.
    bound = 2 / options["hidden_size"] ** 0.5
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.uniform_(-bound, bound)
        classifier.embedding.weight[0] = 0.7  # padding that is read as text shows, too
    return classifier.eval()


def reviews(lengths: list[int], extra: int = 0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(len(lengths), max(lengths) + extra, dtype=torch.int64)
    for review, length in enumerate(lengths):
        tokens[review, :length] = torch.randint(1, VOCAB_SIZE, (length,), generator=generator)
    return tokens


def textbook_logits(
    classifier: RecurrentClassifier, config: ModelConfig, tokens: torch.Tensor, lengths: list[int]
) -> torch.Tensor:
    layer = TORCH_LAYERS[config.name](
        config.embedding_dim,
        config.hidden_size,
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        batch_first=True,
    )
    layer.load_state_dict(classifier.recurrent.state_dict())
    packed = pack_padded_sequence(
        classifier.embedding.weight[tokens], lengths, batch_first=True, enforce_sorted=False
    )
    packed_outputs, state = layer(packed)
    outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True)
    h = state[0] if config.name == "lstm" else state
    pooled = []
    for review, length in enumerate(lengths):
        real = outputs[review, :length]
        parts = {
            "last": h[-2:, review].flatten() if config.bidirectional else h[-1, review],
            "max": real.max(0).values,
            "mean": real.mean(0),
        }
        pooled.append(torch.cat([parts[name] for name in config.pooling.split("_")]))
    return torch.stack(pooled) @ classifier.linear.weight.T + classifier.linear.bias


@every_model
@every_pooling
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_equals_packed_sequences(name, pooling, bidirectional, num_layers):
    options = {"pooling": pooling, "bidirectional": bidirectional, "num_layers": num_layers}
    classifier = build(name, **options)
    config = ModelConfig(name=name, embedding_dim=7, hidden_size=6, **options)

    @settings(max_examples=8, deadline=None)
    @given(
        lengths=st.lists(st.integers(1, 15), min_size=1, max_size=5),
        extra=st.integers(0, 4),
        seed=st.integers(0, 99),
    )
    def check(lengths, extra, seed):
        tokens = reviews(lengths, extra, seed)
        logits = classifier(tokens, torch.tensor(lengths))
        expected = textbook_logits(classifier, config, tokens, lengths)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)

    with torch.no_grad():
        check()


@every_model
@every_pooling
@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_a_review_scores_the_same_alone_and_in_company(name, pooling, bidirectional):
    classifier = build(
        name, pooling=pooling, bidirectional=bidirectional, num_layers=2, hidden_size=40
    )
    lengths = [3, 50, 1, 17, 50, 2]
    tokens = reviews(lengths)
    together = classifier(tokens, torch.tensor(lengths))
    for b, length in enumerate(lengths):
        alone = classifier(tokens[b : b + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together[b : b + 1], alone, rtol=0, atol=1e-5)
    padded = torch.cat([tokens, tokens.new_zeros(len(lengths), 30)], dim=1)
    more_padding = classifier(padded, torch.tensor(lengths))
    torch.testing.assert_close(more_padding, together, rtol=0, atol=1e-5)
    backwards = classifier(tokens.flip(0), torch.tensor(lengths[::-1])).flip(0)
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)


@every_model
@every_pooling
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_equal_those_of_packed_sequences(name, pooling, bidirectional):
    options = {"pooling": pooling, "bidirectional": bidirectional, "num_layers": 2}
    classifier = build(name, dropout=0.0, word_dropout=0.0, **options).train()
    config = ModelConfig(name=name, embedding_dim=7, hidden_size=6, **options)
    lengths = [1, 9, 4, 12]
    tokens, labels = reviews(lengths, extra=2), torch.tensor([0, 2, 1, 2])
    logits = classifier(tokens, torch.tensor(lengths))
    nn.functional.cross_entropy(logits, labels).backward()
    ours = classifier.embedding.weight.grad.clone(), classifier.linear.weight.grad.clone()
    classifier.zero_grad()
    expected = textbook_logits(classifier, config, tokens, lengths)
    nn.functional.cross_entropy(expected, labels).backward()
    torch.testing.assert_close(ours[0], classifier.embedding.weight.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[1], classifier.linear.weight.grad, rtol=0, atol=1e-5)


@every_model
def test_a_review_of_padding_only_is_refused(name):
    with pytest.raises(ValueError, match="lengths"):
        build(name)(reviews([2, 3]), torch.tensor([0, 3]))


@pytest.mark.parametrize("num_classes", [2, 5])
def test_one_logit_a_class(num_classes):
    assert build("gru", num_classes)(reviews([2, 3]), torch.tensor([2, 3])).shape == (
        2,
        num_classes,
    )


def test_the_padding_vector_starts_and_stays_zero():
    torch.manual_seed(0)
    classifier = RecurrentClassifier(ModelConfig(name="gru", embedding_dim=7), VOCAB_SIZE, 2)
    assert classifier.embedding.weight[0].tolist() == [0.0] * 7
    assert classifier.embedding.weight[1:].abs().min() > 0
    # Not even where padding is claimed to be text.
    classifier(reviews([2, 5]), torch.tensor([5, 5])).sum().backward()
    assert classifier.embedding.weight.grad[0].tolist() == [0.0] * 7


def test_dropout_is_after_the_embedding_and_before_the_linear_layer():
    classifier = build("gru", dropout=0.9, pooling="mean", hidden_size=500).train()
    seen = {}
    classifier.linear.register_forward_pre_hook(lambda _, args: seen.update(linear=args[0]))
    classifier.recurrent.register_forward_pre_hook(lambda _, args: seen.update(recurrent=args[0]))
    tokens = reviews([100] * 4)
    classifier(tokens, torch.tensor([100] * 4))
    for what in ("linear", "recurrent"):
        assert 0.85 < (seen[what] == 0).float().mean() < 0.95, what


def test_variational_dropout_has_one_mask_for_all_steps():
    options = {"variational_dropout": True, "word_dropout": 0.0, "embedding_dim": 400}
    classifier = build("gru", num_layers=2, pooling="mean", **options).train()
    seen = {}
    classifier.recurrent.register_forward_pre_hook(lambda _, args: seen.update(inputs=args[0]))
    tokens, lengths = reviews([100] * 4), torch.tensor([100] * 4)
    classifier(tokens, lengths)
    expected = classifier.embed(tokens)
    dropped = seen["inputs"] == 0  # [batch, time, features]
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])  # another one for each text
    assert 0.4 < dropped.float().mean() < 0.6
    torch.testing.assert_close(seen["inputs"], 2 * expected * ~dropped)
    assert torch.equal(classifier.eval()(tokens, lengths), classifier(tokens, lengths))


def test_word_dropout_hides_whole_words_in_training_only():
    config = ModelConfig(name="gru", embedding_dim=8, hidden_size=8, dropout=0, word_dropout=0.3)
    classifier = RecurrentClassifier(config, vocab_size=50, num_classes=2)
    seen: list[torch.Tensor] = []
    classifier.embedding.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    tokens, lengths = torch.randint(2, 50, (64, 100)), torch.full((64,), 100)
    classifier(tokens, lengths)
    assert (seen[0] == 0).float().mean() == pytest.approx(0.3, abs=0.03)
    classifier.eval()
    classifier(tokens, lengths)
    assert torch.equal(seen[1].t(), tokens)


def test_forget_gates_start_open():
    config = LSTMConfig(name="lstm", hidden_size=8, num_layers=2, bidirectional=True, forget_bias=1)
    layers = RecurrentClassifier(config, VOCAB_SIZE, 2).recurrent
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        bias = getattr(layers, f"bias_ih_{suffix}") + getattr(layers, f"bias_hh_{suffix}")
        assert torch.equal(bias[8:16], torch.ones(8))
        assert bias[:8].abs().max() < 1 and bias[:8].std() > 0
    with pytest.raises(ValueError, match="forget"):
        GRUConfig(name="gru", forget_bias=1.0)
    with pytest.raises(ConfigError, match=r"model.forget_bias: only model=lstm.* not gru"):
        validate_model({"name": "gru", "forget_bias": 1.0})


def test_the_reset_gate_is_where_the_config_says():
    for reset_after in (False, True):
        assert build("gru", reset_after=reset_after).recurrent.cell.reset_after is reset_after
    assert build("gru").recurrent.cell.reset_after is True
    for name in ("rnn", "lstm"):
        with pytest.raises(ConfigError, match=f"model.reset_after: only model=gru .* not {name}"):
            validate_model({"name": name, "reset_after": False})
