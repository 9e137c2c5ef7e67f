"""Which weights decay, what a step does, and the learning rate over a run."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from rnn_lab.errors import ConfigError
from rnn_lab.models.config import OptimizerConfig, SchedulerConfig
from rnn_lab.models.embedding import Embedding
from rnn_lab.models.layers import GRU
from rnn_lab.models.optimizers import build_optimizer, build_scheduler, optimizer_classes
from rnn_lab.validation import validate


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 4)
        self.recurrent = nn.GRU(4, 3)
        self.linear = nn.Linear(3, 2)


def gradients(model: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)


def learning_rates(config: SchedulerConfig, steps: int, total_steps) -> list[float]:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    scheduler = build_scheduler(config, optimizer, total_steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_only_weight_matrices_decay():
    model = Model()
    optimizer = build_optimizer(OptimizerConfig(lr=0.1, weight_decay=0.5), model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        decays = name in {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "linear.weight"}
        expected = before[name] * (1 - 0.1 * 0.5) if decays else before[name]
        torch.testing.assert_close(value.detach(), expected, msg=name)


def test_layers_below_have_a_share_of_the_learning_rate_above():
    """Of the linear layer all of it, of those below d, d^2, and the least of the vectors."""
    model = nn.ModuleDict(
        {
            "embedding": Embedding(10, 4),
            "recurrent": GRU(4, 3, num_layers=2, bidirectional=True),
            "linear": nn.Linear(6, 2),
        }
    )
    config = OptimizerConfig(lr=0.1, layer_lr_decay=0.5, vectors_lr_factor=0.25, weight_decay=0.3)
    optimizer = build_optimizer(config, model)
    rate = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        share = {"linear": 1, "embedding": 0.5**3 * 0.25}.get(name.partition(".")[0])
        share = share or (0.5 if "_l1" in name else 0.5**2)
        assert rate[parameter] == pytest.approx(0.1 * share), name
        decays = parameter.dim() > 1 and "embedding" not in name
        assert decay[parameter] == (0.3 if decays else 0), name
    assert len(rate) == len(list(model.parameters()))
    assert optimizer.param_groups[0]["lr"] == 0.1  # which loggers record


@pytest.mark.parametrize("decay", [0, 1.1])
def test_impossible_decays_of_the_learning_rate_are_refused(decay):
    with pytest.raises(ConfigError, match="layer_lr_decay"):
        validate(OptimizerConfig, {"layer_lr_decay": decay})


def test_word_vectors_have_a_share_of_the_learning_rate():
    """A step moves them as one of an optimizer with that rate, and other weights as before."""
    whole, share, less = Model(), Model(), Model()
    configs = (
        OptimizerConfig(lr=0.1),
        OptimizerConfig(lr=0.1, vectors_lr_factor=0.25),
        OptimizerConfig(lr=0.025),
    )
    for model, config in zip((whole, share, less), configs, strict=True):
        optimizer = build_optimizer(config, model)
        assert len(optimizer.param_groups) == (3 if model is share else 2)
        scheduler = build_scheduler(SchedulerConfig(name="one_cycle"), optimizer, 4)
        for seed in range(3):
            gradients(model, seed)
            optimizer.step()
            scheduler.step()
    torch.testing.assert_close(share.embedding.weight, less.embedding.weight)
    torch.testing.assert_close(share.linear.weight, whole.linear.weight, rtol=0, atol=0)


def test_word_vectors_without_a_learning_rate_do_not_move():
    model = Model()
    before = model.embedding.weight.clone()
    optimizer = build_optimizer(OptimizerConfig(lr=0.1, vectors_lr_factor=0.0), model)
    gradients(model, 0)
    optimizer.step()
    torch.testing.assert_close(model.embedding.weight.detach(), before, rtol=0, atol=0)


def groups_of(model: Model) -> list[dict[str, Any]]:
    """Those of a weight decay of 0.1, which matrices have, for an optimizer of torch."""
    recurrent = list(model.recurrent.parameters())  # two matrices, two biases
    matrices = [*recurrent[:2], model.linear.weight]
    others = [*recurrent[2:], model.linear.bias, model.embedding.weight]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_steps_equal_the_plain_optimizer_of_torch(name):
    ours, theirs = Model(), Model()
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    config = OptimizerConfig(name=name, lr=0.05, weight_decay=0.1, **momentum)
    optimizer = build_optimizer(config, ours)
    groups = groups_of(theirs)
    plain = {"foreach": False, "fused": False, "lr": 0.05}
    reference = {
        "adamw": lambda: torch.optim.AdamW(groups, **plain),
        "adam": lambda: torch.optim.Adam(groups, **plain),
        "sgd": lambda: torch.optim.SGD(groups, momentum=0.9, **plain),
    }[name]()
    for seed in range(5):
        gradients(ours, seed)
        gradients(theirs, seed)
        optimizer.step()
        reference.step()
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"dampening": 0.3}, {"maximize": True, "dampening": 0.3}])
def test_sgd_goes_on_when_frozen_weights_begin_to_learn(options):
    ours, theirs = Model(), Model()
    config = OptimizerConfig(name="sgd", lr=0.05, weight_decay=0.1, momentum=0.9, **options)
    optimizer = build_optimizer(config, ours)
    groups = groups_of(theirs)
    plain = {"foreach": False, "fused": False, "lr": 0.05, "momentum": 0.9}
    reference = torch.optim.SGD(groups, **plain, **options)
    for seed in range(5):
        for model in (ours, theirs):
            gradients(model, seed)
            if seed < 2:
                model.recurrent.zero_grad()
        optimizer.step(lambda: None)
        reference.step()
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("argument", ["foreach", "differentiable"])
def test_arguments_that_exclude_the_fused_form_are_accepted(name, argument):
    config = OptimizerConfig(name=name, **{argument: True})
    optimizer = build_optimizer(config, nn.Linear(2, 2))
    assert optimizer.defaults[argument] and not optimizer.defaults.get("fused")


def test_every_parameter_is_optimized_once():
    model = Model()
    optimizer = build_optimizer(OptimizerConfig(), model)
    found = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(set(found)) == len(list(model.parameters()))


def test_one_cycle_follows_that_of_torch():
    rates = learning_rates(SchedulerConfig(name="one_cycle", warmup_ratio=0.3), 1000, 1000)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = OneCycleLR(optimizer, max_lr=2.0, total_steps=1000, pct_start=0.3)
    expected = []
    for _ in range(1000):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < 1000:
            reference.step()
    assert rates == pytest.approx(expected, abs=0.02)  # theirs runs a step ahead of ours
    assert rates[0] == pytest.approx(expected[0]) == pytest.approx(2.0 / 25)
    assert max(rates) == pytest.approx(2.0, rel=1e-3)
    assert rates[-1] < 1e-4


def test_cosine_by_hand():
    rates = learning_rates(SchedulerConfig(name="cosine", warmup_ratio=0.2), 11, 10)
    falls = [1 + math.cos(math.pi * step / 8) for step in range(9)]  # from 2 to 0
    assert rates == pytest.approx([0.0, 1.0, *falls], abs=1e-9)


def test_constant_by_hand():
    rates = learning_rates(SchedulerConfig(name="constant", warmup_ratio=0.4), 10, 10)
    assert rates == pytest.approx([0.0, 0.5, 1.0, 1.5, *[2.0] * 6])
    assert learning_rates(SchedulerConfig(name="constant", warmup_ratio=0), 3, math.inf) == [
        2.0,
        2.0,
        2.0,
    ]


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("total_steps", [1, 2, 10])
def test_rises_then_falls_within_bounds_and_past_the_end(name, warmup_ratio, total_steps):
    config = SchedulerConfig(name=name, warmup_ratio=warmup_ratio)
    rates = learning_rates(config, total_steps + 3, total_steps)
    peak = rates.index(max(rates))
    assert all(0 <= rate <= 2.0 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert len(set(rates[total_steps:])) == 1  # past the end it stays


@pytest.mark.parametrize("name", ["one_cycle", "cosine"])
def test_the_length_may_become_known_at_the_first_step(name):
    config = SchedulerConfig(name=name, warmup_ratio=0.3)
    lengths = iter([math.inf])  # asked once when built, before training
    late = learning_rates(config, 20, lambda: next(lengths, 20))
    assert late == learning_rates(config, 20, 20)


def test_any_optimizer_of_torch_by_name_with_its_arguments():
    config = OptimizerConfig(name="NAdam", lr=0.1, betas=[0.8, 0.95], eps=1e-5, weight_decay=0.0)
    ours, theirs = Model(), Model()
    optimizer = build_optimizer(config, ours)
    reference = torch.optim.NAdam(theirs.parameters(), lr=0.1, betas=(0.8, 0.95), eps=1e-5)
    assert type(optimizer) is torch.optim.NAdam
    for seed in range(3):
        gradients(ours, seed)
        gradients(theirs, seed)
        optimizer.step()
        reference.step()
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(value, expected)


def test_arguments_reach_the_optimizers_with_lazy_updates():
    optimizer = build_optimizer(OptimizerConfig(betas=[0.8, 0.95], eps=1e-5), Model())
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.8, 0.95), 1e-5, False)
    sgd = OptimizerConfig(name="sgd", momentum=0.9, nesterov=True)
    assert build_optimizer(sgd, Model()).param_groups[0]["nesterov"] is True


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam"])
def test_a_beta_may_be_an_integer(name):
    config = OptimizerConfig(name=name, betas=[0, 0.98], weight_decay=0.0)
    assert build_optimizer(config, Model()).defaults["betas"] == (0.0, 0.98)


@pytest.mark.parametrize("name", sorted({*optimizer_classes()} - {"muon"}))  # it has no biases
def test_every_optimizer_makes_a_step(name):
    model = Model()
    before = model.linear.weight.detach().clone()
    optimizer = build_optimizer(OptimizerConfig(name=name, lr=0.1, weight_decay=0.0), model)
    for seed in range(2):  # some make no step from the first gradient
        gradients(model, seed)
        optimizer.step()
    assert not torch.equal(model.linear.weight, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Adamm"}, r"^name=Adamm: .*no such optimizer. Did you mean adam\w*\?"),
        ({"beta": 0.9}, r"optimizer.beta: AdamW has no such option. Did you mean betas\? Choose"),
        ({"momentum": 0.9}, r"optimizer.momentum: AdamW has no such option"),
        ({"_target_": 1}, r"optimizer._target_: AdamW has no such option"),
        ({"_target_": "os.system"}, r"_target_=os.system: give a number"),
        ({"params": 1}, r"optimizer.params: AdamW has no such option"),
        (
            {"betas": [0.9, 1.5]},
            r"^optimizer.betas=\[0.9,1.5\]: give a list of 2 numbers from 0 to ",
        ),
        ({"betas": [-0.1, 0.9]}, r"^optimizer.betas=\[-0.1,0.9\]: .* from 0 to below 1$"),
        ({"betas": [0.9, 1]}, r"^optimizer.betas=\[0.9,1\]: "),
        ({"betas": [0.9, 0.95, 0.99]}, r"^optimizer.betas=\[0.9,0.95,0.99\]: give a list of 2"),
        ({"betas": [0.9]}, r"^optimizer.betas=\[0.9\]: give a list of 2 numbers"),
        ({"name": "nadam", "betas": 0.9}, r"^optimizer.betas=0.9: give a list of 2 numbers"),
        (
            {"name": "rprop", "weight_decay": 0, "etas": [1, 2, 3]},
            r"^optimizer.etas=\[1,2,3\]: give a .* numbers$",
        ),
        ({"name": "sgd", "momentum": 1.0}, r"optimizer.momentum=1.0: give a number from 0"),
        ({"name": "sgd", "momentum": "0.9"}, r"momentum=0.9: give a number"),
        ({"name": "LBFGS"}, r"^name=LBFGS: it computes the loss several times"),
        ({"name": "Muon"}, r"^name=Muon: it takes weight matrices only"),
        ({"name": "foo"}, r"Choose from: adadelta, (?!.*\b(lbfgs|muon|sparseadam)\b)"),
        ({"name": "sparseadam"}, r"^name=sparseadam: it takes sparse gradients only"),
        ({"name": "rprop"}, r"optimizer.weight_decay=0.01: Rprop has none"),
        (
            {"sparse_embedding": "rows"},
            r"sparse_embedding=rows: .*a valid boolean, or auto$",
        ),
    ],
)
def test_impossible_optimizers_are_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        validate(OptimizerConfig, options)
    assert "\n" not in str(caught.value)


def test_an_argument_that_is_null_is_torchs_default():
    assert OptimizerConfig(betas=None, eps=None) == OptimizerConfig()
    assert OptimizerConfig(betas=None).arguments == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cosin"}, r"name=cosin: no such schedule. Did you mean cosine\?"),
        ({"warm_up": 0.1}, r"scheduler.warm_up: one_cycle has no such option"),
        ({"warmup_ratio": 1.0}, r"warmup_ratio=1.0"),
    ],
)
def test_impossible_schedules_are_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        validate(SchedulerConfig, options)
    assert "\n" not in str(caught.value)
