"""A cell, a pooling, a schedule, losses and a metric of a module outside of the package."""

import importlib
import sys
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from torchmetrics import Metric

from rnn_lab.data import register_source, register_tokenizer
from rnn_lab.data.batches import MixedBatch, PaddedTexts
from rnn_lab.errors import ConfigError
from rnn_lab.models import (
    Cell,
    ModelConfig,
    Value,
    register_cell,
    register_fast_path,
    register_loss,
    register_pooling,
    register_schedule,
)
from rnn_lab.models.config import CELL_CONFIGS, LossConfig, SchedulerConfig, validate_model
from rnn_lab.models.layers import RecurrentLayer
from rnn_lab.models.lightning_module import TextClassifier
from rnn_lab.models.mixed_loss import MixedLoss, mixed_loss
from rnn_lab.models.pooling import check_padding
from rnn_lab.models.registry import CELLS, LOSSES, POOLINGS, SCHEDULES
from rnn_lab.models.trace import gradient_norms, logits_with_trace, trace
from rnn_lab.validation import StrictConfig, validate
from tests.models.by_cells import by_cells
from tests.models.test_layers import assert_equal, results, unpacked
from tests.models.test_lightning_module import batches, loader, trainer, which_comes_first

MODULE = """
import torch
from torch import nn
from torchmetrics import Metric

from rnn_lab.models import Cell, ModelConfig, Value
from rnn_lab.models import register_cell, register_loss, register_pooling, register_schedule


class LeakyConfig(ModelConfig):
    leak: float = 0.5


@register_cell("toy_leaky", LeakyConfig)
class LeakyCell(Cell):
    gates = 2  # as no cell of torch has
    states = ("h", "m")
    values = {
        "g": Value("gate", "gate $g$: how much enters", ("none", "all")),
        "m": Value("state", "memory $m$"),
        "h": Value("state", "output $h$"),
    }

    def __init__(self, leak=0.5):
        self.leak = leak

    def weight_shapes(self, input_size, hidden_size):
        return super().weight_shapes(input_size, hidden_size) | {"scale": (hidden_size,)}

    def step(self, x, state, weights):
        h, m = state
        a, b = (x @ weights["weight_ih"].T + h @ weights["weight_hh"].T
                + weights["bias_ih"] + weights["bias_hh"]).chunk(2, dim=1)
        g = torch.sigmoid(a)
        m = self.leak * m + g * torch.tanh(b)
        h = weights["scale"] * torch.tanh(m)
        return {"g": g, "m": m, "h": h}


@register_pooling("toy_attention")
class Attention(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.score = nn.Linear(features, 1)

    def forward(self, outputs, lengths):
        padding = torch.arange(outputs.shape[1]) >= lengths[:, None]
        scores = self.score(outputs).squeeze(2).masked_fill(padding, -torch.inf)
        return (scores.softmax(dim=1)[:, :, None] * outputs).sum(dim=1)


@register_pooling("toy_ends", factor=2)
class Ends(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))

    def forward(self, outputs, lengths):
        end = outputs[torch.arange(len(lengths)), lengths - 1]
        return torch.cat([outputs[:, 0], self.scale * end], dim=1)


@register_pooling("toy_first")
def first(outputs, lengths):
    return outputs[:, 0]


@register_pooling("toy_final", reads_directions=True)
def final(outputs, lengths, bidirectional):
    # The last state of each direction, which has read the whole text.
    rows, half = torch.arange(len(lengths)), outputs.shape[2] // (1 + bidirectional)
    forward = outputs[rows, lengths - 1, :half]
    return torch.cat([forward, outputs[:, 0, half:]], dim=1)


@register_pooling("toy_none")
def none(outputs, lengths):
    return outputs


@register_pooling("toy_half", factor=2)
def half(outputs, lengths):
    return outputs[:, 0]


@register_pooling("toy_pair")
def pair(outputs, lengths):
    return outputs[:, 0], lengths


@register_schedule("toy_staircase")
def staircase(progress, warmup_ratio, drops=2):
    return 0.1 ** int(progress * drops)


@register_schedule("toy_steps")
def steps(progress, warmup_ratio, steps):
    return 0.5 ** int(progress * steps)


@register_schedule("toy_nothing")
def nothing(progress, warmup_ratio):
    pass


@register_schedule("toy_text")
def text(progress, warmup_ratio):
    return "1"


@register_schedule("toy_below")
def below(progress, warmup_ratio):
    return -progress


@register_schedule("toy_endless")
def endless(progress, warmup_ratio):
    return float("inf")


@register_schedule("toy_nan")
def nan(progress, warmup_ratio):
    return float("nan")


@register_schedule("toy_vector")
def vector(progress, warmup_ratio):
    return torch.ones(2)


@register_schedule("toy_tensor")
def tensor(progress, warmup_ratio):
    return torch.tensor(progress)


@register_loss("toy_brier")
def brier(texts, passes, config):
    labels = nn.functional.one_hot(texts.labels, passes[0].shape[1])
    return (passes[0].softmax(dim=1) - labels).square().sum(dim=1)


@register_loss("toy_agreement", needs_labels=False, passes=2)
def agreement(texts, passes, config):
    first, second = (logits.softmax(dim=1) for logits in passes)
    return config.epsilon * (first - second).square().sum(dim=1)


@register_loss("toy_no_pass", needs_labels=False, passes=0)
def no_pass(texts, passes, config):
    assert passes == []
    return texts.logits(torch.zeros_like(texts.vectors)).square().mean(dim=1)


@register_loss("toy_mean")
def mean(texts, passes, config):
    return passes[0].mean()


@register_loss("toy_wrong")
def wrong(texts, passes, config):
    return passes[0].argmax(dim=1) != texts.labels


@register_loss("toy_constant")
def constant(texts, passes, config):
    return (passes[0].argmax(dim=1) != texts.labels).float()


class ErrorRate(Metric):
    def __init__(self, num_classes):
        super().__init__()
        self.add_state("wrong", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, preds, target):
        self.wrong += (preds.argmax(1) != target).sum()
        self.seen += len(target)

    def compute(self):
        return self.wrong / self.seen


class PerClass(ErrorRate):
    def compute(self):
        return torch.zeros(2)
"""


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The user's module, from a folder of their own; forgotten again after these tests."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "toys_of_a_user.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("toys_of_a_user")
    sys.path.remove(str(folder))
    for registry in (CELLS, LOSSES, POOLINGS, SCHEDULES):
        for name in [name for name in registry if name.startswith("toy_")]:
            del registry._entries[name]
    del CELL_CONFIGS["toy_leaky"]


def build(toys: ModuleType, **options) -> TextClassifier:
    torch.manual_seed(1)
    model = {"name": "toy_leaky", "embedding_dim": 16, "hidden_size": 24, "dropout": 0.0}
    model |= {"leak": 0.9, "pooling": "toy_attention"} | options
    scheduler = {"name": "toy_staircase", "drops": 3}
    optimizer = {"name": "nadam", "lr": 1e-2, "weight_decay": 0.0}
    return TextClassifier(model, 20, 2, optimizer, scheduler, {"error_rate": toys.ErrorRate})


def test_it_trains_and_its_checkpoint_gives_it_back(toys, tmp_path):
    model = build(toys, bidirectional=True)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    run = trainer(max_epochs=4, num_sanity_val_steps=0)
    train, held_out = (batches(which_comes_first(n, s), 32) for n, s in ((512, 0), (100, 1)))
    run.fit(model, loader(train), loader(held_out))
    assert all(not torch.equal(w, before[name]) for name, w in model.named_parameters())
    accuracy = float(run.callback_metrics["val/accuracy"])
    assert accuracy > 0.9
    error = float(run.callback_metrics["val/error_rate"])
    assert error == pytest.approx(1 - accuracy, abs=1e-6)
    run.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["model"]["leak"] == 0.9
    assert "toys_of_a_user" not in str(checkpoint["hyper_parameters"])
    again = TextClassifier(**checkpoint["hyper_parameters"])
    again.load_state_dict(checkpoint["state_dict"])
    assert again.classifier.recurrent.cell.leak == 0.9
    batch = held_out[0]
    with torch.no_grad():
        logits = again.eval()(batch.tokens, batch.lengths)
        torch.testing.assert_close(logits, model.eval()(batch.tokens, batch.lengths))


def test_its_layer_its_trace_and_its_gradients_agree(toys):
    torch.manual_seed(0)
    layer = RecurrentLayer("toy_leaky", 3, 4, num_layers=2, bidirectional=True).double()
    assert "scale_l1_reverse" in layer.state_dict()
    assert layer.weight_ih_l0.shape == (8, 3)
    inputs, lengths = torch.randn(3, 6, 3, dtype=torch.float64), torch.tensor([6, 1, 4])
    expected = results(by_cells, layer, inputs, lengths)
    assert_equal(results(unpacked, layer, inputs, lengths), expected, 1e-12)
    assert list(trace(layer, inputs, lengths)[0].steps[0]) == ["g", "m", "h"]

    classifier = build(toys, num_layers=2, pooling="toy_first").classifier.double()
    tokens, labels = torch.randint(2, 20, (3, 6)), torch.tensor([0, 1, 1])
    logits, _ = logits_with_trace(classifier, tokens, lengths)
    torch.testing.assert_close(logits, classifier.eval()(tokens, lengths))
    norms = gradient_norms(build(toys).classifier.double(), tokens, lengths, labels)[0].norms
    assert norms.shape == (6,) and (norms > 0).all()


def test_a_pooling_may_return_several_times_the_features(toys):
    classifier = build(toys, pooling="toy_ends").classifier.eval()
    assert classifier.linear.in_features == 2 * 24
    tokens, lengths = torch.randint(2, 20, (2, 6)), torch.tensor([6, 3])
    outputs, _ = classifier.recurrent(classifier.embed(tokens), lengths)
    ends = torch.cat([outputs[:, 0], torch.stack([outputs[0, 5], outputs[1, 2]])], dim=1)
    torch.testing.assert_close(classifier(tokens, lengths), classifier.linear(ends))


@pytest.mark.parametrize(
    ("pooling", "line"),
    [
        ("toy_none", "returned [2, 6, 24], expected [2, 24]: [batch, features]"),
        ("toy_half", "returned [2, 24], expected [2, 48]: [batch, 2 * features]"),
        ("toy_pair", "returned a tuple, expected [2, 24]: [batch, features]"),
    ],
)
def test_a_pooling_that_returns_another_shape_is_one_line(toys, pooling, line):
    classifier = build(toys, pooling=pooling).classifier
    with pytest.raises(ConfigError) as error:
        classifier(torch.randint(2, 20, (2, 6)), torch.tensor([6, 3]))
    assert str(error.value) == f"model.pooling={pooling}: {line}"


POOLINGS_THAT_READ_PADDING = {
    "mean": lambda outputs, lengths: outputs.mean(1),
    "maximum": lambda outputs, lengths: outputs.amax(1),
    "last": lambda outputs, lengths: outputs[:, -1],
}


@pytest.mark.parametrize("name", POOLINGS_THAT_READ_PADDING)
def test_a_pooling_that_reads_padding_is_refused(toys, name):
    register_pooling(f"toy_padded_{name}")(POOLINGS_THAT_READ_PADDING[name])
    with pytest.raises(ConfigError, match=f"model.pooling=toy_padded_{name}: depends on the padd"):
        check_padding(f"toy_padded_{name}", None, 4, False)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_other_poolings_are_not_refused(toys, bidirectional):
    others = {"toy_none", "toy_half", "toy_pair", *(name for name in POOLINGS if "padded" in name)}
    for name in set(POOLINGS) - others:
        module = POOLINGS[name].build_module(4)
        state = torch.get_rng_state()
        check_padding(name, module, 4, bidirectional)
        assert torch.equal(torch.get_rng_state(), state)
        assert module is None or module.training


def test_a_pooling_does_not_read_padding(toys):
    classifier = build(toys).classifier.eval()
    tokens = torch.randint(2, 20, (1, 6))
    alone = classifier(tokens, torch.tensor([6]))
    padded = torch.cat([tokens, torch.zeros(1, 5, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(classifier(padded, torch.tensor([6])), alone)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_pooling_can_tell_the_directions_apart(toys, bidirectional):
    torch.manual_seed(1)
    tokens, lengths = torch.randint(2, 20, (3, 6)), torch.tensor([6, 2, 4])
    tokens = tokens.where(torch.arange(6) < lengths[:, None], 0)
    final = build(toys, pooling="toy_final", bidirectional=bidirectional).classifier.eval()
    last = build(toys, pooling="last", bidirectional=bidirectional).classifier.eval()
    torch.testing.assert_close(final(tokens, lengths), last(tokens, lengths))


def losses_of(toys: ModuleType, weights: dict[str, float], labels: torch.Tensor) -> MixedLoss:
    """The losses of three labelled texts and of two unlabelled ones."""
    torch.manual_seed(0)
    tokens, lengths = torch.randint(2, 20, (5, 6)), torch.tensor([6, 1, 4, 3, 6])
    others = PaddedTexts(tokens[3:], lengths[3:])
    batch = MixedBatch(tokens[:3], lengths[:3], labels, torch.arange(3), others)
    classifier = build(toys, dropout=0.5).classifier
    return mixed_loss(classifier, batch, validate(LossConfig, weights), classifier.task.loss)


def test_a_loss_has_a_weight_and_reads_what_it_registered(toys):
    labels = torch.tensor([0, 1, 1])
    weights = {"toy_brier": 0.5, "toy_agreement": 2.0, "toy_no_pass": 1.0, "adversarial": 1.0}
    found = losses_of(toys, weights, labels)
    order = ["cross_entropy", "adversarial", "toy_agreement", "toy_brier", "toy_no_pass"]
    assert list(found.terms) == order  # that in which they draw random numbers
    assert [found.terms[name].texts for name in order] == [3, 3, 5, 3, 5]
    brier = (found.logits.softmax(1) - torch.eye(2)[labels]).square().sum(1).mean()
    torch.testing.assert_close(found.terms["toy_brier"].mean, brier)
    assert found.terms["toy_agreement"].mean > 0  # of passes with different dropout
    total = sum(weights.get(name, 1.0) * term.mean for name, term in found.terms.items())
    torch.testing.assert_close(found.total, total)
    found.total.backward()

    written = losses_of(toys, dict(reversed(weights.items())), labels)
    assert torch.equal(written.total, found.total)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("toy_mean", "returned [], expected [3]: [batch]"),
        ("toy_wrong", "returned torch.bool, expected real numbers"),
        ("toy_constant", "has no gradient; compute it from the logits of `passes`"),
    ],
)
def test_a_loss_that_returns_something_else_is_one_line(toys, name, message):
    with pytest.raises(ConfigError) as error:
        losses_of(toys, {name: 1.0}, torch.tensor([0, 1, 1]))
    assert str(error.value) == f"loss.{name}: {message}"


def test_the_weights_of_losses_are_checked(toys):
    for name, needs_none in (("toy_brier", False), ("toy_agreement", True), ("toy_no_pass", True)):
        config = validate(LossConfig, {name: 0.5, "toy_mean": 0})
        assert config.needs_no_labels is needs_none and not config.is_cross_entropy
        assert config.weights == {name: 0.5}
        assert LossConfig(**config.model_dump()) == config
    choices = {*LossConfig.model_fields, *(name for name in LOSSES if name.startswith("toy_"))}
    for options, line in (
        (
            {"toy_brief": 1},
            "loss.toy_brief: no such option. Did you mean toy_brier? Choose from: "
            f"{', '.join(sorted(choices))} (a loss of your own: plugins=[<its module>])",
        ),
        ({"toy_brier": -1}, "loss.toy_brier=-1: input should be greater than or equal to 0"),
        ({"toy_brier": "much"}, "loss.toy_brier=much: input should be a valid number"),
    ):
        with pytest.raises(ConfigError) as error:
            validate(_Losses, {"loss": options})
        assert str(error.value).partition(", unable")[0] == line


class _Losses(StrictConfig):
    loss: LossConfig


def test_a_loss_has_a_name_of_its_own(toys):
    for name in LossConfig.model_fields:  # options and losses of the package
        with pytest.raises(ConfigError, match=rf"^loss {name}( is registered twice|: is built in)"):
            register_loss(name)(toys.brier)
    with pytest.raises(ConfigError, match=r"^loss cross_entropy: is built in"):
        register_loss("cross_entropy")
    with pytest.raises(ConfigError, match=r"^loss toy_brier: passes=-1 must be an integer"):
        register_loss("toy_brier", passes=-1)


def test_its_options_are_checked(toys):
    factors = [SchedulerConfig(name="toy_staircase").factor(p) for p in (0.0, 0.5, 1.0)]
    assert factors == pytest.approx([1, 0.1, 0.01])
    for options, message in (
        ({"name": "toy_leaky", "leak": "much"}, r"model.leak=much"),
        (
            {"name": "gru", "leak": 0.1},
            r"model.leak: only model=toy_leaky has this option, not gru",
        ),
        ({"name": "toy_leeky"}, r"model.name=toy_leeky: no such cell. Did you mean toy_leaky\?"),
        ({"name": "gru", "pooling": "toy_frist"}, r"no such pooling. Did you mean toy_first\?"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            validate_model(options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("nothing", "NoneType"), ("text", "str"), ("vector", "Tensor"), ("below", "-0.5")),
        *(("endless", "inf"), ("nan", "nan")),
    ],
)
def test_a_schedule_returns_a_number(toys, name, kind):
    assert SchedulerConfig(name="toy_tensor").factor(0.5) == 0.5
    with pytest.raises(ConfigError) as error:
        SchedulerConfig(name=f"toy_{name}").factor(0.5)
    assert (
        str(error.value)
        == f"scheduler.name=toy_{name}: returned {kind}, expected a number from 0 up"
    )


class LeakConfig(ModelConfig):
    leak: float = 0.5


class NoStep(Cell):
    gates = 1
    values: ClassVar = {"h": Value("state", "state $h$")}


class NoGates(Cell):
    values = NoStep.values

    def step(self, x, state, weights):
        return {"h": weights["scale"] * state[0]}


class NoArgument(NoGates):
    gates = 1


class NoDefault(NoArgument):
    def __init__(self, decay):
        self.decay = decay


class FloatGates(NoGates):
    gates = 2.0


class ZeroGates(NoGates):
    gates = 0


class OwnShapes(NoGates):
    def weight_shapes(self, input_size, hidden_size):
        return {"scale": (hidden_size,)}


@pytest.mark.parametrize(
    ("cell", "config", "line"),
    [
        (NoStep, ModelConfig, "NoStep does not define step"),
        (NoGates, ModelConfig, "NoGates does not define gates"),
        (FloatGates, ModelConfig, "gates=2.0 must be a positive integer"),
        (ZeroGates, ModelConfig, "gates=0 must be a positive integer"),
        (
            NoArgument,
            LeakConfig,
            "the constructor of NoArgument does not fit the options of LeakConfig: got an "
            "unexpected keyword argument 'leak'",
        ),
        (
            NoDefault,
            ModelConfig,
            "the constructor of NoDefault does not fit the options of ModelConfig: missing a "
            "required argument: 'decay'",
        ),
        (LeakConfig, ModelConfig, "must be a subclass of rnn_lab.models.Cell"),
        (NoArgument, dict, "<class 'dict'> is not a subclass of ModelConfig"),
    ],
)
def test_an_incomplete_cell_is_not_registered(cell, config, line):
    with pytest.raises(ConfigError) as error:
        register_cell("incomplete", config)(cell)
    assert str(error.value) == f"cell incomplete: {line}"
    assert "incomplete" not in CELLS


def test_a_cell_with_weights_of_its_own_needs_no_gates(monkeypatch):
    monkeypatch.setattr(CELLS, "_entries", dict(CELLS._entries))
    monkeypatch.delitem(CELL_CONFIGS, "own_shapes", raising=False)
    register_cell("own_shapes")(OwnShapes)
    layer = RecurrentLayer("own_shapes", 3, 4)
    assert {name: tuple(weight.shape) for name, weight in layer.named_parameters()} == {
        "scale_l0": (4,)
    }


@pytest.mark.parametrize(
    ("register", "form"),
    [
        (register_cell, '@register_cell: needs a name: @register_cell("name")'),
        (register_pooling, '@register_pooling: needs a name: @register_pooling("name")'),
        (register_loss, '@register_loss: needs a name: @register_loss("name")'),
        (register_schedule, '@register_schedule: needs a name: @register_schedule("name")'),
        (register_source, '@register_source: needs a name: @register_source("name")'),
        (register_tokenizer, '@register_tokenizer: needs a name: @register_tokenizer("name")'),
        (
            register_fast_path,
            "@register_fast_path: needs a class of cells: @register_fast_path(MyCell)",
        ),
    ],
)
def test_a_decorator_that_is_not_called_is_one_line(register, form):
    with pytest.raises(ConfigError) as error:

        @register
        def part(*arguments):
            pass

    assert str(error.value) == form


class NoFeatures(torch.nn.Module):
    def __init__(self):
        super().__init__()


@pytest.mark.parametrize(
    ("register", "function", "message"),
    [
        (
            register_schedule,
            lambda progress: 1.0,
            "schedule wrong: <lambda>(progress) is called with (progress, warmup_ratio): too many "
            "positional arguments",
        ),
        (
            register_loss,
            lambda texts, passes: passes[0],
            "loss wrong: <lambda>(texts, passes) is called with (texts, passes, config): too many "
            "positional arguments",
        ),
        (
            register_pooling,
            lambda outputs, lengths, bidirectional: outputs[:, 0],
            "pooling wrong: <lambda>(outputs, lengths, bidirectional) is called with (outputs, "
            "lengths): missing a required argument: 'bidirectional'",
        ),
        (
            register_pooling,
            NoFeatures,
            "pooling wrong: NoFeatures() is called with (features): too many positional arguments",
        ),
        (
            register_source,
            lambda: None,
            "data source wrong: <lambda>() is called with (config): too many positional arguments",
        ),
    ],
)
def test_what_is_registered_takes_what_it_is_called_with(register, function, message):
    with pytest.raises(ConfigError) as error:
        register("wrong")(function)
    assert str(error.value) == message


def test_a_schedule_may_need_an_option(toys):
    assert SchedulerConfig(name="toy_steps", steps=2).factor(1.0) == 0.25
    with pytest.raises(ConfigError) as error:
        validate(SchedulerConfig, {"name": "toy_steps"})
    assert str(error.value) == "scheduler.steps: toy_steps needs a value of this option"


def test_a_step_returns_the_values_that_are_described(toys):
    class Forgetful(toys.LeakyCell):
        def step(self, x, state, weights):
            values = super().step(x, state, weights)
            return {name: values[name] for name in ("m", "h")}

    layer = RecurrentLayer(Forgetful(), 3, 4)
    with pytest.raises(ConfigError, match="its step returns m, h, but its values are g, m, h"):
        layer(torch.zeros(2, 5, 3), torch.tensor([5, 2]))


def test_a_step_returns_a_dict(toys):
    class Alone(toys.LeakyCell):
        def step(self, x, state, weights):
            return super().step(x, state, weights)["h"]

    with pytest.raises(ConfigError, match="its step returned Tensor, expected a dict of g, m, h"):
        RecurrentLayer(Alone(), 3, 4)(torch.zeros(2, 5, 3), torch.tensor([5, 2]))


def test_a_step_returns_values_of_the_shape_of_the_state(toys):
    class Narrow(toys.LeakyCell):
        def step(self, x, state, weights):
            return {name: value[:, :1] for name, value in super().step(x, state, weights).items()}

    layer = RecurrentLayer(Narrow(), 3, 4)
    with pytest.raises(ConfigError) as error:
        layer(torch.zeros(2, 5, 3), torch.tensor([5, 2]))
    assert str(error.value) == (
        "model.name=toy_leaky: its step returned g [2, 1], expected [2, 4]: [batch, hidden]"
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda h: h.tolist(), "its step returned h as list, expected a tensor"),
        (
            lambda h: h.double(),
            "its step returned h in torch.float64, expected the type of its arguments",
        ),
    ],
)
def test_a_step_returns_tensors_of_the_type_of_the_state(toys, change, line):
    class Changed(toys.LeakyCell):
        def step(self, x, state, weights):
            values = super().step(x, state, weights)
            return values | {"h": change(values["h"])}

    layer = RecurrentLayer(Changed(), 3, 4)
    for precision in (torch.float32, torch.bfloat16):
        with (
            torch.autocast("cpu", precision, enabled=precision == torch.bfloat16),
            pytest.raises(ConfigError) as error,
        ):
            layer(torch.zeros(2, 5, 3), torch.tensor([5, 2]))
        assert str(error.value) == f"model.name=toy_leaky: {line}"


def test_a_name_belongs_to_one_thing(toys):
    assert CELLS["toy_leaky"] is toys.LeakyCell
    register_cell("toy_leaky", toys.LeakyConfig)(toys.LeakyCell)  # imported twice
    with pytest.raises(ConfigError, match=r"cell gru is registered twice, by rnn_lab.models.cells"):
        register_cell("gru")(toys.LeakyCell)
    with pytest.raises(ConfigError, match="pooling last is registered twice, by rnn_lab"):
        register_pooling("last")(lambda outputs, lengths: outputs[:, 0])
    with pytest.raises(ConfigError, match="pooling toy_none: factor=0 must be a positive integer"):
        register_pooling("toy_none", factor=0)
    with pytest.raises(ConfigError, match="cell toy_none: `states` must begin with h"):
        register_cell("toy_none")(type("Nothing", (OwnShapes,), {"values": {}}))
    for value in ("state", Value("output", "h")):
        with pytest.raises(ConfigError, match=r"values\['h'\] is .*kind gate, candidate, state$"):
            register_cell("toy_none")(type("Wrong", (OwnShapes,), {"values": {"h": value}}))
    with pytest.raises(ConfigError, match=r"cell toy_none: .*\(self, x, h\) is called with"):
        register_cell("toy_none")(type("Short", (OwnShapes,), {"step": lambda self, x, h: None}))
    with pytest.raises(ConfigError, match="one word"):
        register_cell("toy/leaky")(toys.LeakyCell)


def test_a_metric_is_one_number(toys):
    model = TextClassifier({"name": "gru"}, 20, 2, {}, {}, {"per_class": toys.PerClass})
    assert isinstance(model.val_metrics["per_class"], Metric)
    held_out = batches(which_comes_first(50, 1), 32)
    with pytest.raises(ConfigError, match=r"metrics.per_class: must compute one number"):
        trainer().test(model, loader(held_out), verbose=False)
