"""Poolings: from the outputs of every step to one vector per text.

A pooling takes outputs [batch, time, features], which are zero beyond each length, and lengths
[batch], from 1 to time, and returns [batch, factor * features]. Padding must not change its result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rnn_lab.errors import ConfigError
from rnn_lab.models.registry import POOLED_PARTS, POOLINGS

FunctionOrClass = TypeVar("FunctionOrClass", bound=Callable[..., Any])


class Pooling(NamedTuple):
    """What `register_pooling` was given."""

    function: Callable[..., Any]  # or a class of nn.Module
    factor: int
    reads_directions: bool
    parts: tuple[str, ...] = ()  # of last, max and mean, which it joins; (): another pooling

    @property
    def needs_outputs(self) -> bool:
        """Whether it reads the outputs of every step, and not only each direction's final state."""
        return self.parts != ("last",)

    def build_module(self, features: int) -> nn.Module | None:
        """Build the module of a pooling with weights; None: it is a function."""
        return self.function(features) if isinstance(self.function, type) else None


def register_pooling(
    name: str, factor: int = 1, *, reads_directions: bool = False
) -> Callable[[FunctionOrClass], FunctionOrClass]:
    """Register a function, or a class of nn.Module, as the pooling `model.pooling=<name>`.

    A function is called as pooling(outputs, lengths). A class is built as pooling(features), and
    called like a function; its weights are part of the model. Either returns
    [batch, factor * features]. With `reads_directions`, it is called as
    pooling(outputs, lengths, bidirectional): if true, the second half of the features is of the
    backward direction, whose last state is at step 0.

    Raises:
        ConfigError: another pooling has that name, it is neither function nor nn.Module, it does
            not take these arguments, or the factor is not a positive integer.
    """
    POOLINGS.check_name(name)
    if not isinstance(factor, int) or factor < 1:
        raise ConfigError(f"pooling {name}: factor={factor} must be a positive integer")

    def register(function: FunctionOrClass) -> FunctionOrClass:
        if isinstance(function, type):
            if not issubclass(function, nn.Module):
                raise ConfigError(f"pooling {name}: a class must be a torch.nn.Module")
            POOLINGS.check_call(name, function, "features")
        else:
            side = ("bidirectional",) if reads_directions else ()
            POOLINGS.check_call(name, function, "outputs", "lengths", *side)
        pooling = Pooling(function, factor, reads_directions, POOLED_PARTS.get(name, ()))
        POOLINGS.add(name, pooling, function)
        return function

    return register


def pool(
    name: str,
    module: nn.Module | None,
    outputs: Tensor,
    lengths: Tensor,
    bidirectional: bool,
    *,
    use_numba: bool = True,
) -> Tensor:
    """Return [batch, factor * features] of outputs [batch, time, features] by the pooling `name`.

    `module` is the pooling itself where it has weights. On a CPU, a pooling of parts that needs the
    outputs has a compiled form, which is used unless `use_numba` is false.

    Raises:
        ConfigError: the pooling returned another shape.
    """
    pooling = POOLINGS[name]
    is_compiled = bool(pooling.parts) and pooling.needs_outputs and outputs.dtype != torch.float16
    if use_numba and is_compiled and outputs.device.type == "cpu":
        from rnn_lab.models.fast.fused_pooling import fused_pool  # takes a second: only if needed

        return fused_pool(pooling.parts, outputs, lengths, bidirectional)
    directions = (bidirectional,) if pooling.reads_directions else ()
    pooled = (module or pooling.function)(outputs, lengths, *directions)
    expected = [len(outputs), pooling.factor * outputs.shape[2]]
    found = list(pooled.shape) if isinstance(pooled, Tensor) else f"a {type(pooled).__name__}"
    if found != expected:
        size = "features" if pooling.factor == 1 else f"{pooling.factor} * features"
        raise ConfigError(
            f"model.pooling={name}: returned {found}, expected {expected}: [batch, {size}]"
        )
    return pooled


def check_padding(name: str, module: nn.Module | None, features: int, bidirectional: bool) -> None:
    """Raise a ConfigError if the pooling `name` of two texts depends on what is beyond their ends.

    The prediction for a text would depend on the texts beside it.
    """
    values = torch.linspace(0.1, 1, 3 * features).view(1, 3, features)
    outputs = torch.cat([values, -values])  # of a maximum, zeros beyond show in one of them
    lengths = torch.tensor([3, 3])
    was_training = module is not None and module.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        if module is not None:
            module.eval()
        pooled, of_padded = (
            pool(name, module, one, lengths, bidirectional, use_numba=False)
            for one in (outputs, nn.functional.pad(outputs, (0, 0, 0, 2)))
        )
        if module is not None:
            module.train(was_training)
    if not torch.allclose(pooled, of_padded, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ConfigError(
            f"model.pooling={name}: depends on the padding, outputs of zero beyond `lengths`, so "
            "that a text's prediction depends on the texts beside it. A mean is "
            "outputs.sum(1) / lengths[:, None]"
        )


@register_pooling("last", reads_directions=True)
def last(outputs: Tensor, lengths: Tensor, bidirectional: bool = False) -> Tensor:
    """Return the final state of each direction, which has read everything.

    The forward direction ends at the last real step. The backward direction reads from the end to
    the beginning, so its final state is at step 0; at the last real step it has read one token.
    """
    final = (lengths - 1)[:, None].repeat(1, outputs.size(2))  # [batch, features]
    if bidirectional:
        final[:, outputs.size(2) // 2 :] = 0
    return _at_steps(outputs, final)


@register_pooling("mean")
def mean(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean over real steps."""
    return outputs.sum(dim=1) / lengths[:, None].to(outputs.dtype)


@register_pooling("max")
def maximum(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the maximum over real steps, feature by feature.

    The zeros beyond the end would win over features that are negative throughout, and masking them
    would copy the whole block. So each text is read up to its own length. The gradient goes to one
    step per feature.
    """
    with torch.no_grad():
        steps = [
            text[:length].max(dim=0).indices  # faster on a CPU than argmax
            for text, length in zip(outputs, lengths.tolist(), strict=True)
        ]
    return _at_steps(outputs, torch.stack(steps))


@register_pooling("max_mean", factor=2)
def max_mean(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the maximum and the mean over real steps, joined."""
    return torch.cat([maximum(outputs, lengths), mean(outputs, lengths)], dim=1)


@register_pooling("last_max_mean", factor=3, reads_directions=True)
def last_max_mean(outputs: Tensor, lengths: Tensor, bidirectional: bool = False) -> Tensor:
    """Return the final state, the maximum and the mean over real steps, joined.

    It is the concat pooling of Howard and Ruder (2018, "Universal Language Model Fine-tuning for
    Text Classification", section 3.3). The order of the parts is theirs.
    """
    return torch.cat([last(outputs, lengths, bidirectional), max_mean(outputs, lengths)], dim=1)


@register_pooling("attention")
class Attention(nn.Module):
    """A mean over real steps, weighted by learned attention (Yang et al. 2016, equations 5 to 7).

    u_t = tanh(W h_t + b), a_t = softmax over t of u_t . q, and the result is sum_t a_t h_t: "word
    attention" of "Hierarchical Attention Networks for Document Classification".
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, features)
        self.query = nn.Linear(features, 1, bias=False)

    def forward(self, outputs: Tensor, lengths: Tensor) -> Tensor:
        """Return the weighted mean [batch, features] of outputs [batch, time, features]."""
        scores = self.query(self.project(outputs).tanh()).squeeze(2)  # [batch, time]
        steps = torch.arange(outputs.shape[1], device=outputs.device)
        is_padding = steps >= lengths.to(outputs.device)[:, None]
        weights = scores.masked_fill(is_padding, -torch.inf).softmax(dim=1)
        return (weights.to(outputs.dtype)[:, None] @ outputs).squeeze(1)


def _at_steps(outputs: Tensor, steps: Tensor) -> Tensor:
    """Return outputs[b, steps[b, f], f]: [batch, features]."""
    return outputs.gather(1, steps.to(outputs.device)[:, None]).squeeze(1)
