"""The data sources by name: a config class and a function that loads a corpus."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rnn_lab.data.options import TextOptions
from rnn_lab.errors import ConfigError, DataError, MissingDataError
from rnn_lab.registry import REGISTERED_OPTIONS, Registry

if TYPE_CHECKING:
    from rnn_lab.data.corpus import Corpus

log = logging.getLogger(__name__)

Load = TypeVar("Load", bound="Callable[[Any], Corpus]")


class Source(NamedTuple):
    """What `register_source` was given."""

    config: type[TextOptions]
    load: Callable[[Any], Corpus]


SOURCES: Registry[Source] = Registry("data source")


def register_source(name: str, config: type[TextOptions] = TextOptions) -> Callable[[Load], Load]:
    """Register the decorated function as the data source `name`.

    The function takes a `config` object and returns a Corpus. A YAML file with `source: <name>` in
    a folder conf/data makes `data=<file>` select it. `config` is a subclass of TextOptions that
    declares the options which the source adds; leave it out where it adds none.

    Raises:
        ConfigError: the name is not a word, another function has it, or this one does not take a
            config.
        TypeError: `config` is not a subclass of TextOptions.
    """
    SOURCES.check_name(name)
    if not (isinstance(config, type) and issubclass(config, TextOptions)):
        raise TypeError(f"data source {name}: {config!r} is not a subclass of TextOptions")

    def register(load: Load) -> Load:
        SOURCES.check_call(name, load, "config")
        SOURCES.add(name, Source(config, load), load)
        REGISTERED_OPTIONS.update(f"data.{option}" for option in config.model_fields)
        return load

    return register


def find_source(name: Any) -> Source:
    """Return the source of that name.

    Raises:
        ValueError: there is none; the message names the option, the nearest name and the choices.
    """
    try:
        return SOURCES[name]
    except ValueError as error:
        raise ValueError(f"data.source={name}: {error}") from None


def load_corpus(config: TextOptions, *, allow_fallback: bool = False) -> Corpus:
    """Load the texts that `config` selects.

    If they are missing, `allow_fallback` is true and the source has a fallback, log a warning with
    the reason and load the fallback. Damaged data is an error in any case.

    Raises:
        DataError: the texts are missing or malformed.
    """
    try:
        source = find_source(config.source)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        corpus = source.load(config)
    except FileNotFoundError as error:  # of a user's function
        raise DataError(f"data={config.source}: {error.filename}: no such file") from error
    except MissingDataError as error:
        fallback = config.fallback()
        if fallback is None or not allow_fallback:
            raise
        corpus = load_corpus(fallback)
        kind = "synthetic texts" if corpus.synthetic else "texts"
        log.warning("Using the %s of data.source=%s: %s", kind, fallback.source, error)
        return corpus
    _check(corpus, config.source)
    return corpus


def _check(corpus: Any, source: str) -> None:
    """Report the mistakes of a source that would be errors far from their cause later."""
    from rnn_lab.data.corpus import Corpus

    if not isinstance(corpus, Corpus):
        raise DataError(f"data={source}: returned {type(corpus).__name__}, expected a Corpus")
    classes = len(corpus.class_names)
    if classes < 2:
        raise DataError(f"data={source}: {classes} class; two or more are needed")
    for name, count in Counter(corpus.class_names).items():
        if not isinstance(name, str) or count > 1:
            raise DataError(f"data={source}: class_names must be different texts; found {name!r}")
    for name, split in corpus.splits.items():
        for field in ("texts", "names", "groups", "hashes"):
            values = getattr(split, field)
            if values is not None and len(values) != len(split):
                raise DataError(
                    f"data={source}: {name} has {len(values)} {field} and {len(split)} labels"
                )
        if split.groups is not None and split.groups.dtype.name != "int64":
            raise DataError(f"data={source}: groups of {name} must be integers")
        if split.labels.ndim == 1 and split.labels.dtype.name != "int64":
            raise DataError(
                f"data={source}: labels of {name} must be integers, indices into class_names"
            )
        if split.labels.ndim != corpus.train.labels.ndim:
            raise DataError(f"data={source}: the texts of {name} have no labels as those of train")
        if split.labels.ndim == 2:
            is_binary = split.labels.dtype.name == "uint8" and split.labels.max(initial=0) <= 1
            if not is_binary or split.labels.shape[1] != classes:
                raise DataError(
                    f"data={source}: the labels of {name} must be 0 or 1, with {classes} columns"
                )
        elif len(split) and not 0 <= split.labels.min() <= split.labels.max() < classes:
            raise DataError(
                f"data={source}: the labels of {name} are {split.labels.min()} to "
                f"{split.labels.max()}; with {classes} classes they must be 0 to {classes - 1}"
            )
