"""Compose each config once: Hydra composes it twice, which takes a tenth of a second.

The first time it only looks whether `hydra.mode` makes a sweep of the command, or whether the job
of a sweep can be composed.
"""

import contextlib
from collections.abc import Iterator, Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

MOST_KEPT = 20  # configs of jobs that a sweep has yet to launch, of 400 KiB each


@contextlib.contextmanager
def composing_once() -> Iterator[None]:
    """Let a command that Hydra runs within the context have the configs of Hydra's first look."""
    compose, validate = ConfigLoaderImpl.load_configuration, Sweeper.validate_batch_is_legal
    kept: dict[tuple[str, ...], DictConfig] = {}  # by overrides
    is_validating = False
    looks: list[tuple[list[str], DictConfig | Exception]] = []  # one, until it is used

    def load_configuration(
        self: ConfigLoaderImpl,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        if not validate_sweep_overrides:  # the look
            given = list(overrides)
            try:
                config = compose(self, config_name, overrides, run_mode, from_shell, False)
            except Exception as error:
                looks[:] = [(given, error)]
                raise
            looks[:] = [(given, config)]
            return config
        if looks:
            given, found = looks.pop()
            added = overrides[len(given) :]
            if overrides == [*given, *added] and added in ([], [f"hydra.mode={run_mode.name}"]):
                parsed = OverridesParser.create().parse_overrides(given)
                self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
                if isinstance(found, Exception):
                    raise found
                if not OmegaConf.missing_keys(found.hydra.runtime.choices):  # no run lacks any
                    found.hydra.overrides.hydra.extend(added)
                    found.hydra.mode = run_mode if added else found.hydra.mode
                    return found
        job = tuple(overrides)
        if job in kept and not is_validating:
            return kept.pop(job)
        config = compose(self, config_name, overrides, run_mode, from_shell)
        if is_validating and len(kept) < MOST_KEPT:
            kept[job] = config
        return config

    def validate_batch_is_legal(self: Sweeper, batch: Sequence[Sequence[str]]) -> None:
        nonlocal is_validating
        is_validating = True
        try:
            validate(self, batch)
        finally:
            is_validating = False

    ConfigLoaderImpl.load_configuration = load_configuration  # type: ignore[method-assign]
    Sweeper.validate_batch_is_legal = validate_batch_is_legal  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]
        Sweeper.validate_batch_is_legal = validate  # type: ignore[method-assign]
