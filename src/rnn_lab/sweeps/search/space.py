"""The search space: sweep overrides in Hydra's syntax, as Optuna distributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Sweep,
    Transformer,
)
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from rnn_lab.errors import ConfigError
from rnn_lab.validation import unknown_choice_message

Value = str | int | float | bool | None
Distribution = CategoricalDistribution | IntDistribution | FloatDistribution


@dataclass(frozen=True)
class Dimension:
    """One option that is searched.

    `key` is its name as an override has it (with a `+` where it is to be added), `texts` are the
    values of a choice as an override writes them.
    """

    key: str
    distribution: Distribution
    texts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The option, as the study calls it."""
        return self.key.lstrip("+")

    def suggest(self, trial: Trial) -> Value:
        """Let the sampler choose, or return what it chose before for this trial."""
        value: Value = trial._suggest(self.name, self.distribution)  # as suggest_int and others
        return value

    def override(self, value: Value) -> str:
        """Return the override that gives a job this value."""
        if isinstance(self.distribution, CategoricalDistribution):
            return f"{self.key}={self.texts[int(self.distribution.to_internal_repr(value))]}"
        # Six digits are as many as anybody reads, in every list, name and table of a sweep.
        return f"{self.key}={value:.6g}" if isinstance(value, float) else f"{self.key}={value}"

    def points(self) -> Sequence[Any]:
        """Return every value there is.

        Raises:
            ConfigError: it is an interval, which has no end of them.
        """
        space = self.distribution
        if isinstance(space, CategoricalDistribution):
            return space.choices
        if isinstance(space, IntDistribution):
            return range(space.low, space.high + 1, space.step)
        if space.step is None:
            raise ConfigError(
                f"{self.key}: sampler.name=grid needs values, not an interval; "
                "write choice(...) or range(...)"
            )
        count = round((space.high - space.low) / space.step) + 1
        return [space.low + i * space.step for i in range(count)]

    def bounds(self) -> list[Value]:
        """Return values that show whether all of them are possible: each choice, or both ends."""
        space = self.distribution
        if isinstance(space, CategoricalDistribution):
            return list(space.choices)
        return [space.low, space.high]


@dataclass(frozen=True)
class Space:
    """A search space: what is fixed in every job, and what is searched."""

    fixed: list[str]
    dimensions: list[Dimension]

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """Return the overrides of the job with those values, by name."""
        return self.fixed + [d.override(values[d.name]) for d in self.dimensions]


def parse_space(lines: Sequence[str], parser: OverridesParser) -> Space:
    """Read overrides; of two for the same option the later counts.

    Raises:
        ConfigError: a space cannot be searched, or there is none.
        HydraException: a line is no override.
    """
    latest: dict[str, Override] = {}
    for override in parser.parse_overrides(list(lines)):
        option = override.get_key_element().lstrip("+~")
        latest.pop(option, None)
        latest[option] = override
    swept = [override for override in latest.values() if override.is_sweep_override()]
    if not swept:
        raise ConfigError(
            "hydra/sweeper=optuna: nothing to search; take search=lstm, or name a space: "
            "'optimizer.lr=tag(log,interval(0.001,0.02))'"
        )
    fixed = [str(o.input_line) for o in latest.values() if not o.is_sweep_override()]
    return Space(fixed, [_dimension(override) for override in swept])


def _dimension(override: Override) -> Dimension:
    key, sweep = override.get_key_element(), override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    for tag in tags - {"log"}:
        what = f"{override.input_line}: no such tag: {tag}"
        raise ConfigError(unknown_choice_message(what, tag, ["log"]))
    try:
        if isinstance(sweep, RangeSweep):
            return Dimension(key, _of_range(sweep, log="log" in tags))
        if isinstance(sweep, IntervalSweep):
            return Dimension(key, _of_interval(sweep, log="log" in tags))
        if tags:
            raise ValueError("tag(log) is for range and interval: a choice has no order")
        return _of_choice(key, override)
    except ValueError as error:
        raise ConfigError(f"{override.input_line}: {error}") from None


def _of_choice(key: str, override: Override) -> Dimension:
    sweep = override.value()
    # Not `sweep_iterator` where it may shuffle: a study keeps the order of its choices.
    elements = sweep.list if isinstance(sweep, ChoiceSweep) else list(override.sweep_iterator())
    if not elements:
        raise ValueError("there is nothing to choose from")
    by_text = {Transformer.str(e): e for e in elements}
    values = [_plain(text, element) for text, element in by_text.items()]
    if len(set(values)) < len(values):  # 1 and true are equal in Python
        values = list(by_text)
    return Dimension(key, CategoricalDistribution(values), tuple(by_text))


def _plain(text: str, element: Any) -> Value:
    """Return a value that a study can store: lists and dicts as they are written."""
    if isinstance(element, QuotedString):
        return element.text
    return element if isinstance(element, Value) else text


def _of_range(sweep: RangeSweep, *, log: bool) -> IntDistribution | FloatDistribution:
    if not sweep.step:
        raise ValueError("a step of 0 goes nowhere")
    values = sorted(sweep.range())
    if not values:
        raise ValueError("the range is empty: it stops before its second number")
    low, high, step = values[0], values[-1], abs(sweep.step)
    if log and (low <= 0 or step != 1 or not isinstance(low, int)):
        raise ValueError("tag(log) needs a range of whole numbers above 0, one apart")
    if isinstance(low, int):
        return IntDistribution(low, int(high), log=log, step=int(step))
    return FloatDistribution(low, low + (len(values) - 1) * float(step), step=float(step))


def _of_interval(sweep: IntervalSweep, *, log: bool) -> IntDistribution | FloatDistribution:
    low, high = sweep.start, sweep.end
    assert low is not None and high is not None
    if low > high:
        raise ValueError(f"the interval is empty: {low} is above {high}")
    if log and low <= 0:
        raise ValueError("tag(log) needs an interval above 0")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)
