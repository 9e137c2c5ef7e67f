"""Strict configuration schemas, the objects that options name, and one line per invalid option."""

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from rnn_lab.errors import ConfigError, sanitize, whole_message
from rnn_lab.paths import expand_home

# Names, places and speed: no metric of a run depends on them. Every other option of train.py is
# part of the fingerprint, a new one too, so that no result is taken for that of another config.
FINGERPRINT_EXCLUDED = frozenset(
    {
        *("name", "tags", "plugins", "paths", "experiment", "logger", "sweep", "max_retries"),
        *("resume", "trial", "reproduce", "baseline", "report_dir", "plots"),
        *("data.cache_dir", "data.num_workers", "data.root", "data.url", "data.download"),
        *("trainer.enable_progress_bar", "trainer.checkpoint_every_n_steps"),
        "trainer.checkpoint_every_n_minutes",
        *("trainer.profiler", "trainer.enable_model_summary", "trainer.inference_mode"),
        "trainer.num_sanity_val_steps",  # with a random state of its own
        # Where they take effect, the run would have no metrics without them: result.json says so.
        *("trainer.on_nonfinite", "trainer.max_rollbacks"),
    }
)


class StrictConfig(BaseModel):
    """A group of options that accepts no other names and is immutable once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AUTO: Any = "auto"  # the value of an option that is resolved once the texts or machine are known


class OrAuto:
    """Let an option be AUTO too: `Annotated[PositiveInt, OrAuto()]`.

    Its static type stays that of the resolved option, since whoever reads it has resolved it.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        unchanged = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_wrap_validator_function(
            _or_auto, handler(source), serialization=unchanged
        )


def _or_auto(value: Any, validate: Callable[[Any], Any]) -> Any:
    if value == AUTO:
        return value
    try:
        return validate(value)
    except ValidationError as error:
        reason = _reason(error.errors()[0]).partition(", unable")[0]
        raise ValueError(f"{reason}, or {AUTO}") from None


class Verbatim:
    """Marks text that the command line takes literally, see rnn_lab.overrides."""


@dataclass(frozen=True)
class OptionsOf:
    """Marks a plain mapping that is validated later, as a `schema` or a subclass of it."""

    schema: type[BaseModel]


def _as_text(value: Any) -> Any:
    """Return a number or boolean of a YAML file as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


# A name, a column, a label: 2024 and true are text too, and the command line takes it literally.
Text = Annotated[str, Verbatim(), BeforeValidator(_as_text)]
# The same for a path, in which `~` is the home folder.
FilePath = Annotated[Text, AfterValidator(expand_home)]


def _check_targets(entries: Any) -> Any:
    for name, entry in (entries or {}).items():
        if entry is not None and (not isinstance(entry, dict) or "_target_" not in entry):
            raise ValueError(f"{name}: needs a _target_, the class to build: _target_: my.Class")
    return entries or {}


# An object of the user's own conf or command line, as hydra.utils.instantiate builds it.
Target = dict[str, Any]
# Several, by name; null removes one that a file of conf names.
Targets = Annotated[dict[str, Target | None], BeforeValidator(_check_targets)]

_MISSING = object()
Schema = TypeVar("Schema", bound=BaseModel)


def build_object(target: Target, option: str, kind: type, **arguments: Any) -> Any:
    """Build the object of a `_target_` with hydra.utils.instantiate.

    Raises:
        ConfigError: it cannot be built, or is not a `kind`; names the option.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    name = target.get("_target_")
    try:
        built = instantiate(target, **arguments)
    except (HydraException, OmegaConfBaseException) as error:
        cause: BaseException = error
        # Hydra's own lines surround the error of the import or of the class.
        while isinstance(cause, HydraException | ImportError) and cause.__cause__:
            cause = cause.__cause__
        reason = _missing_attribute(str(name)) or whole_message(cause)
        raise ConfigError(f"{option}: {name} cannot be built: {reason}") from error
    if not isinstance(built, kind):
        expected = f"{kind.__module__.partition('.')[0]} {kind.__name__}"
        raise ConfigError(f"{option}: {name} is a {type(built).__name__}, not a {expected}")
    return built


def _missing_attribute(target: str) -> str | None:
    """Return that an imported module has no such class; None: it has, or was not imported.

    Hydra then tries to import the class as a module, and its error says that there is no such one.
    """
    module, _, name = target.rpartition(".")
    if module not in sys.modules or hasattr(sys.modules[module], name):
        return None
    public = [one for one in dir(sys.modules[module]) if not one.startswith("_")]
    return f"{module} has no {name}.{_suggestion(name, public)}"


def metric_factories(
    targets: Targets, *, is_multilabel: bool = False
) -> dict[str, Callable[[int], Any]]:
    """Return for each entry of `metrics` a function of the number of classes that builds it.

    As torchmetrics names it, that is `num_labels` where a text has any number of labels.
    """
    from torchmetrics import Metric

    def build(target: Target, name: str, num_classes: int) -> Metric:
        size = {"num_labels" if is_multilabel else "num_classes": num_classes}
        return build_object(target, f"metrics.{name}", Metric, **size)

    return {name: partial(build, target, name) for name, target in targets.items() if target}


def validate(schema: type[Schema], options: Mapping[str, Any]) -> Schema:
    """Return `options` as a `schema`.

    Raises:
        ConfigError: an option is unknown or has an invalid value; one line for each.
    """
    try:
        return schema.model_validate(dict(options))
    except ValidationError as error:
        reasons: dict[str, list[str]] = {}  # a value that fits no member of a union has several
        for details in error.errors():
            path, is_member = _option_path(details["loc"], options)
            if is_member:
                line = f"{'.'.join(path)}={as_typed(details['input'])}"
                reasons.setdefault(line, []).append(_reason(details).partition(", unable")[0])
            else:
                reasons[_line(path, details, schema)] = []
        raise ConfigError(
            "\n".join(f"{k}: {' or '.join(v)}" if v else k for k, v in reasons.items())
        ) from None


def first_problem(error: ValidationError) -> str:
    """Return the first problem of untrusted content: "model.name=gru2: Input should be ..."."""
    first = error.errors()[0]
    given = f"={sanitize(first['input'], 50)}" if isinstance(first["input"], str) else ""
    reason = first.get("ctx", {}).get("error", first["msg"])
    return sanitize(f"{'.'.join(map(str, first['loc']))}{given}: {reason}")


def flatten(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options under their dotted names: {"model.hidden_size": 128, ...}."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        inner = isinstance(value, Mapping)
        found |= flatten(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def unknown_choice_message(what: str, name: str, choices: Sequence[str]) -> str:
    """Return "`what`. Did you mean ...? Choose from: ...", where `name` is not in `choices`."""
    return f"{what}.{_suggestion(name, choices)} Choose from: {', '.join(sorted(choices))}"


def check_arguments(group: str, name: str, arguments: Mapping[str, Any], known: list[str]) -> None:
    """Make sure that `arguments` are among the `known` ones of the optimizer or schedule `name`.

    Raises:
        ValueError: one is not; suggests one that is.
    """
    for argument in arguments:
        if argument not in known:
            meant = _suggestion(argument, known)
            choices = f" Choose from: {', '.join(known)}" if known else ""
            raise ValueError(f"{group}.{argument}: {name} has no such option.{meant}{choices}")


def closest_choice(name: str, choices: Collection[str]) -> str | None:
    """Return the choice that `name` may mean: the only one it begins, or else a similar one."""
    last = name.rpartition(".")[2]
    begun = [choice for choice in choices if last and choice.startswith(last)]
    close = begun if len(begun) == 1 else get_close_matches(last, choices, n=1)
    return close[0] if close else None


def _suggestion(name: str, choices: Sequence[str]) -> str:
    meant = closest_choice(name, choices)
    return "" if meant is None else f" Did you mean {meant}?"


def _line(path: list[str], details: Any, schema: type[BaseModel]) -> str:
    """Return the message about the option at `path`."""
    name, kind, value = ".".join(path), details["type"], details["input"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        if others := _groups_with(schema, path[-1], besides=path[0]):
            return f"{name}: no such option; there is {', '.join(others)}"
        groups = _groups_at(schema, path[:-1])
        names = sorted({n for g in groups for n in g.model_fields} - {path[-1]})  # of another one
        meant = _suggestion(path[-1], names)
        if not meant and len(groups) == 1 and names:
            meant = f" Choose from: {', '.join(names)}"
        return f"{name}: no such option{'.' if meant else ''}{meant}"
    if kind == "missing":
        return f"{name}: no value given"
    if kind == "union_tag_not_found":
        tag = context["discriminator"].strip("'")
        return f"{name}.{tag}: no value given"
    if kind == "union_tag_invalid":
        choices = context["expected_tags"].replace("'", "")
        tag = context["discriminator"].strip("'")
        return f"{name}.{tag}={context['tag']}: impossible value. Choose from: {choices}"
    if kind == "literal_error":
        choices = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"{name}={as_typed(value)}: impossible value. Choose from: {choices}"
    if kind == "secret":  # the value itself is not printed
        return f"{name}: {details['msg']}"
    if isinstance(value, Mapping):  # an error about several options names them itself
        message = str(context.get("error", details["msg"]))
        if name and re.match(r"\w+[=:]", message):
            return f"{name}.{message}"
        if _groups_at(schema, path):  # and not one option that was given a mapping
            return message
    return f"{name}={as_typed(value)}: {_reason(details)}"


def as_typed(value: Any) -> str:
    """Return a value as one types it on the command line: null, true, 0.5."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(details: Any) -> str:
    if details["type"] in ("list_type", "tuple_type") and isinstance(details["input"], str):
        return f"give a list: [{details['input']}]"
    reason = str(details.get("ctx", {}).get("error", details["msg"]))
    return f"{reason[0].lower()}{reason[1:]}"


def _option_path(
    location: Sequence[str | int], options: Mapping[str, Any]
) -> tuple[list[str], bool]:
    """Return the names that lead to an option, and whether it is a value that fits no union.

    The location of an error within a discriminated union has one part more, the chosen member's
    tag, which is a value of the group and not a name in it: data.imdb.max_length. That of a value
    that fits no member of its union continues below the value, where there is nothing.
    """
    path: list[str] = []
    value: Any = options
    for position, part in enumerate(location):
        if isinstance(value, Mapping):
            tags = [tag for tag in value.values() if isinstance(tag, str)]
            if part not in value and part in tags and position < len(location) - 1:
                continue
            value = value.get(part, _MISSING)
        elif isinstance(value, list | tuple) and isinstance(part, int):
            value = value[part]
        elif isinstance(value, str | int | float | list | tuple | None):
            return path, True
        else:
            value = _MISSING
        path.append(str(part))
    return path, False


def _groups_at(schema: type[BaseModel], path: Sequence[str]) -> set[type[BaseModel]]:
    """Return the schema of the group at `path`; of a union those of all its members."""
    groups = {schema}
    for name in path:
        fields = [group.model_fields[name] for group in groups if name in group.model_fields]
        groups = {group for field in fields for group in _schemas_in(field.annotation)}
    return groups


def _groups_with(schema: type[BaseModel], option: str, *, besides: str) -> list[str]:
    """Return the options of that name in the other groups of a schema: ["trainer.max_epochs"]."""
    return [
        f"{group}.{option}"
        for group, field in schema.model_fields.items()
        if group != besides
        and any(option in inner.model_fields for inner in _schemas_in(field.annotation))
    ]


def _schemas_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _schemas_in(argument)


def check_iterable(values: Any, name: str, *, may_be_table: bool = False) -> None:
    """Check an argument of texts or labels, before its items are read.

    Raises:
        TypeError: it is a single string, a mapping or a table, or cannot be iterated over.
    """
    kind = type(values).__name__
    if isinstance(values, str | bytes):
        raise TypeError(f"{name} is a single string; give an iterable of them")
    is_table = hasattr(values, "columns")
    if is_table and may_be_table:
        return
    if is_table or isinstance(values, Mapping):
        raise TypeError(f"{name} is a table or mapping, {kind}; give one column of it")
    try:
        iter(values)
    except TypeError:
        raise TypeError(f"{name} is not iterable: {kind}") from None
