"""The `data` options: those of every built-in source, and DataOptions for any registered one."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from rnn_lab.data.options import SHARED_OPTIONS, TextOptions
from rnn_lab.data.sources.auto import AutoConfig
from rnn_lab.data.sources.demo import DemoConfig
from rnn_lab.data.sources.imdb import ImdbConfig
from rnn_lab.data.sources.lists import ListsConfig
from rnn_lab.data.sources.long_range import LongRangeConfig
from rnn_lab.data.sources.registry import SOURCES, find_source
from rnn_lab.data.sources.text_files import FilesConfig

__all__ = (
    "SHARED_OPTIONS",
    "AutoConfig",
    "DataOptions",
    "DemoConfig",
    "FilesConfig",
    "ImdbConfig",
    "ListsConfig",
    "LongRangeConfig",
    "TextOptions",
)


def _validate(options: Any) -> Any:
    """Validate a mapping with the config class that is registered for its `source`."""
    if isinstance(options, TextOptions):
        return options
    if not isinstance(options, Mapping):
        raise ValueError("expected the options of a source, such as data=demo")
    if (name := options.get("source")) is None:
        raise ValueError("data.source: no value given")
    config = find_source(name).config
    if problems := list(_options_of_others(options, str(name), config)):
        advice = (
            f"; choose a source by its file, data={name}, or leave its options out: ~data.<name>"
        )
        raise ValueError("\n".join(problems) + advice)
    # Pydantic puts errors of this call under the name of the field: data.max_length.
    return config.model_validate(dict(options))


def _options_of_others(
    options: Mapping[Any, Any], name: str, config: type[TextOptions]
) -> Iterator[str]:
    """Yield a line for each option that other sources have."""
    for option in options:
        others = [n for n in SOURCES if option in SOURCES[n].config.model_fields]
        if option not in config.model_fields and others:
            listed = ", ".join(f"data={other}" for other in others)
            yield f"data.{option}: only {listed} has this option, not data={name}"


# As a pydantic field: the options of the source that its `source` names.
DataOptions = Annotated[SerializeAsAny[TextOptions], BeforeValidator(_validate)]
