"""Objects of the user's own conf and command line, built from their `_target_`."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from rnn_lab.errors import ConfigError
from rnn_lab.validation import Target, Targets

T = TypeVar("T")


def build_objects(targets: Targets, option: str, kind: type[T]) -> list[T]:
    """Build the object of each entry of `option`; an entry that is null is left out.

    Raises:
        ConfigError: one cannot be built, or is not a `kind`; names the entry.
    """
    return [
        build_object(target, f"{option}.{name}", kind) for name, target in targets.items() if target
    ]


def build_object(target: Target, option: str, kind: Callable[..., T], **arguments: Any) -> T:
    """Build one object with hydra.utils.instantiate.

    Raises:
        ConfigError: it cannot be built, or is not a `kind`.
    """
    try:
        built = instantiate(target, **arguments)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error
        reason = str(cause).strip().partition("\n")[0]
        name = target.get("_target_")
        raise ConfigError(f"{option}: {name} cannot be built: {reason}") from error
    assert isinstance(kind, type)
    if not isinstance(built, kind):
        raise ConfigError(
            f"{option}: {target.get('_target_')} is a {type(built).__name__}, not a "
            f"{kind.__module__.partition('.')[0]} {kind.__name__}"
        )
    return cast(T, built)


def metric_factories(targets: Targets) -> dict[str, Callable[[int], Any]]:
    """Return for each entry of `metrics` a function of the number of classes that builds it."""
    from torchmetrics import Metric

    def build(target: Target, name: str, num_classes: int) -> Metric:
        return build_object(target, f"metrics.{name}", Metric, num_classes=num_classes)

    return {name: partial(build, target, name) for name, target in targets.items() if target}
