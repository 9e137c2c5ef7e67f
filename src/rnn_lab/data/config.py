"""The `data` options: those of every built-in source, and DataOptions for any registered one."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from rnn_lab.data.options import SHARED_OPTIONS, TextOptions
from rnn_lab.data.sources.auto import AutoConfig
from rnn_lab.data.sources.demo import DemoConfig
from rnn_lab.data.sources.imdb import ImdbConfig
from rnn_lab.data.sources.lists import ListsConfig
from rnn_lab.data.sources.long_range import LongRangeConfig
from rnn_lab.data.sources.registry import find_source
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
    # Pydantic puts errors of this call under the name of the field: data.max_length.
    return find_source(options.get("source")).config.model_validate(dict(options))


# As a pydantic field: the options of the source that its `source` names.
DataOptions = Annotated[SerializeAsAny[TextOptions], BeforeValidator(_validate)]
